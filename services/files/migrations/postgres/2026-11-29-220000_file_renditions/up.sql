-- What is made of bytes: images in other sizes, text, and what they say of themselves. Copies of a file have them together.
CREATE TABLE file_rendition (
    tenant_id  uuid      NOT NULL,
    id         uuid      NOT NULL,
    -- The bytes that it is made of.
    source_id  uuid      NOT NULL,
    -- What it is: `400x300.webp`, `text` or `info`.
    name       text      NOT NULL,
    -- `pending`, `ready` or `failed`.
    state      text      NOT NULL,
    -- Its own bytes, once it is ready.
    blob_id    uuid,
    size       bigint    NOT NULL,
    sha256     text      NOT NULL,
    -- Why it could not be made.
    fault      text,
    created_at timestamp NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, source_id, name),
    FOREIGN KEY (tenant_id, source_id) REFERENCES file_blob (tenant_id, id),
    FOREIGN KEY (tenant_id, blob_id) REFERENCES file_blob (tenant_id, id)
);
CREATE INDEX file_rendition_by_blob ON file_rendition (tenant_id, blob_id);
CREATE INDEX file_rendition_by_age ON file_rendition (created_at);

ALTER TABLE file_rendition ENABLE ROW LEVEL SECURITY;
ALTER TABLE file_rendition FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON file_rendition
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
