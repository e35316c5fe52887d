CREATE TABLE note (
    id         uuid      NOT NULL,
    tenant_id  uuid      NOT NULL,
    text       text      NOT NULL,
    created_at timestamp NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (tenant_id, id)
);
CREATE INDEX note_by_age ON note (tenant_id, created_at);

CREATE TABLE note_tag (
    tenant_id uuid NOT NULL,
    note_id   uuid NOT NULL,
    tag       text NOT NULL,
    PRIMARY KEY (tenant_id, note_id, tag),
    FOREIGN KEY (tenant_id, note_id) REFERENCES note (tenant_id, id) ON DELETE CASCADE
);
