-- What is made of bytes: images in other sizes, text, and what they say of themselves. Copies of a file have them together.
CREATE TABLE file_rendition (
    tenant_id  TEXT      NOT NULL,
    id         TEXT      NOT NULL,
    -- The bytes that it is made of.
    source_id  TEXT      NOT NULL,
    -- What it is: `400x300.webp`, `text` or `info`.
    name       TEXT      NOT NULL,
    -- `pending`, `ready` or `failed`.
    state      TEXT      NOT NULL,
    -- Its own bytes, once it is ready.
    blob_id    TEXT,
    size       BIGINT    NOT NULL,
    sha256     TEXT      NOT NULL,
    -- Why it could not be made.
    fault      TEXT,
    created_at TIMESTAMP NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, source_id, name),
    FOREIGN KEY (tenant_id, source_id) REFERENCES file_blob (tenant_id, id),
    FOREIGN KEY (tenant_id, blob_id) REFERENCES file_blob (tenant_id, id)
);
CREATE INDEX file_rendition_by_blob ON file_rendition (tenant_id, blob_id);
CREATE INDEX file_rendition_by_age ON file_rendition (created_at);
