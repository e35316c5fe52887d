-- Contents that files had before others replaced them.
CREATE TABLE file_version (
    tenant_id     uuid      NOT NULL,
    file_id       uuid      NOT NULL,
    -- 1 for the first content of a file, one more for each that replaces it.
    number        bigint    NOT NULL,
    blob_id       uuid      NOT NULL,
    size          bigint    NOT NULL,
    sha256        text      NOT NULL,
    media_type    text      NOT NULL,
    type_declared text,
    created_by    uuid      NOT NULL,
    created_at    timestamp NOT NULL,
    PRIMARY KEY (tenant_id, file_id, number),
    FOREIGN KEY (tenant_id, file_id) REFERENCES file (tenant_id, id),
    FOREIGN KEY (tenant_id, blob_id) REFERENCES file_blob (tenant_id, id)
);
CREATE INDEX file_version_by_blob ON file_version (tenant_id, blob_id);

ALTER TABLE file_version ENABLE ROW LEVEL SECURITY;
ALTER TABLE file_version FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON file_version
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
