CREATE TABLE note (
    id         TEXT      NOT NULL,
    tenant_id  TEXT      NOT NULL,
    text       TEXT      NOT NULL,
    created_at TIMESTAMP NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (tenant_id, id)
);
CREATE INDEX note_by_age ON note (tenant_id, created_at);

CREATE TABLE note_tag (
    tenant_id TEXT NOT NULL,
    note_id   TEXT NOT NULL,
    tag       TEXT NOT NULL,
    PRIMARY KEY (tenant_id, note_id, tag),
    FOREIGN KEY (tenant_id, note_id) REFERENCES note (tenant_id, id) ON DELETE CASCADE
);
