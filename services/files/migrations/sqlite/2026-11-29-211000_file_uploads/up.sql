-- Uploads that go on with the next request (tus): how far each has come. Its parts are blobs until it is whole.
CREATE TABLE file_upload (
    tenant_id     TEXT      NOT NULL,
    -- Also the id of the file that it becomes.
    id            TEXT      NOT NULL,
    owner_id      TEXT      NOT NULL,
    length        BIGINT    NOT NULL,
    received      BIGINT    NOT NULL,
    -- Raised by each request that goes on with it, so that the one before can commit nothing more.
    fence         BIGINT    NOT NULL,
    name          TEXT      NOT NULL,
    folder        TEXT      NOT NULL,
    metadata      JSON      NOT NULL,
    type_declared TEXT,
    expires_at    TIMESTAMP NOT NULL,
    touched_at    TIMESTAMP NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX file_upload_by_expiry ON file_upload (expires_at);
CREATE INDEX file_upload_by_owner ON file_upload (tenant_id, owner_id);

ALTER TABLE file_blob ADD COLUMN upload_id TEXT;
ALTER TABLE file_blob ADD COLUMN start_at BIGINT;
