CREATE TABLE note (
    tenant_id  TEXT      NOT NULL,
    id         TEXT      NOT NULL,
    text       TEXT      NOT NULL,
    version    BIGINT    NOT NULL,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
-- For the worker that deletes old notes, whosever they are.
CREATE INDEX note_by_age ON note (created_at);

CREATE TABLE note_tag (
    tenant_id TEXT NOT NULL,
    note_id   TEXT NOT NULL,
    tag       TEXT NOT NULL,
    PRIMARY KEY (tenant_id, note_id, tag),
    FOREIGN KEY (tenant_id, note_id) REFERENCES note (tenant_id, id) ON DELETE CASCADE
);
