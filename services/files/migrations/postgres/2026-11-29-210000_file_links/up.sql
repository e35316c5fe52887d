-- Addresses by which anybody reads a file. What opens one is not here: its hash is.
CREATE TABLE file_link (
    tenant_id     uuid      NOT NULL,
    id            uuid      NOT NULL,
    file_id       uuid      NOT NULL,
    token_hash    text      NOT NULL UNIQUE,
    created_by    uuid      NOT NULL,
    expires_at    timestamp NOT NULL,
    max_downloads bigint,
    downloads     bigint    NOT NULL,
    -- When the last download that counts began.
    downloaded_at timestamp,
    revoked_at    timestamp,
    created_at    timestamp NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, file_id) REFERENCES file (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX file_link_by_file ON file_link (tenant_id, file_id, id);
CREATE INDEX file_link_by_expiry ON file_link (expires_at);

ALTER TABLE file_link ENABLE ROW LEVEL SECURITY;
ALTER TABLE file_link FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON file_link
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
