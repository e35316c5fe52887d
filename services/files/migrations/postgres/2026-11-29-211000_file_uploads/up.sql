-- Uploads that go on with the next request (tus): how far each has come. Its parts are blobs until it is whole.
CREATE TABLE file_upload (
    tenant_id     uuid      NOT NULL,
    -- Also the id of the file that it becomes.
    id            uuid      NOT NULL,
    owner_id      uuid      NOT NULL,
    length        bigint    NOT NULL,
    received      bigint    NOT NULL,
    -- Raised by each request that goes on with it, so that the one before can commit nothing more.
    fence         bigint    NOT NULL,
    name          text      NOT NULL,
    folder        text      NOT NULL,
    metadata      json      NOT NULL,
    type_declared text,
    expires_at    timestamp NOT NULL,
    touched_at    timestamp NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX file_upload_by_expiry ON file_upload (expires_at);
CREATE INDEX file_upload_by_owner ON file_upload (tenant_id, owner_id);

ALTER TABLE file_blob ADD COLUMN upload_id uuid;
ALTER TABLE file_blob ADD COLUMN start_at bigint;

ALTER TABLE file_upload ENABLE ROW LEVEL SECURITY;
ALTER TABLE file_upload FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON file_upload
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
