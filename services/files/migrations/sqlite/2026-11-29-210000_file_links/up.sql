-- Addresses by which anybody reads a file. What opens one is not here: its hash is.
CREATE TABLE file_link (
    tenant_id     TEXT      NOT NULL,
    id            TEXT      NOT NULL,
    file_id       TEXT      NOT NULL,
    token_hash    TEXT      NOT NULL UNIQUE,
    created_by    TEXT      NOT NULL,
    expires_at    TIMESTAMP NOT NULL,
    max_downloads BIGINT,
    downloads     BIGINT    NOT NULL,
    -- When the last download that counts began.
    downloaded_at TIMESTAMP,
    revoked_at    TIMESTAMP,
    created_at    TIMESTAMP NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, file_id) REFERENCES file (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX file_link_by_file ON file_link (tenant_id, file_id, id);
CREATE INDEX file_link_by_expiry ON file_link (expires_at);
