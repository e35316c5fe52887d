-- Contents that files had before others replaced them.
CREATE TABLE file_version (
    tenant_id     TEXT      NOT NULL,
    file_id       TEXT      NOT NULL,
    -- 1 for the first content of a file, one more for each that replaces it.
    number        BIGINT    NOT NULL,
    blob_id       TEXT      NOT NULL,
    size          BIGINT    NOT NULL,
    sha256        TEXT      NOT NULL,
    media_type    TEXT      NOT NULL,
    type_declared TEXT,
    created_by    TEXT      NOT NULL,
    created_at    TIMESTAMP NOT NULL,
    PRIMARY KEY (tenant_id, file_id, number),
    FOREIGN KEY (tenant_id, file_id) REFERENCES file (tenant_id, id),
    FOREIGN KEY (tenant_id, blob_id) REFERENCES file_blob (tenant_id, id)
);
CREATE INDEX file_version_by_blob ON file_version (tenant_id, blob_id);
