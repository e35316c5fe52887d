-- Bytes in the store. The row is there before the first byte and until after the last: `writing` while they arrive,
-- `kept` while files refer to them, `dropping` until the store has deleted them.
CREATE TABLE file_blob (
    tenant_id   TEXT      NOT NULL,
    id          TEXT      NOT NULL,
    owner_id    TEXT      NOT NULL,
    state       TEXT      NOT NULL,
    size        BIGINT    NOT NULL,
    -- How many files have these bytes.
    refs        BIGINT    NOT NULL,
    -- What is held of the quota while the size is not known.
    reserved    BIGINT    NOT NULL,
    -- Until when an instance writes. One that ended leaves it to run out.
    lease_until TIMESTAMP NOT NULL,
    created_at  TIMESTAMP NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX file_blob_pending ON file_blob (state, lease_until) WHERE state <> 'kept';
CREATE INDEX file_blob_by_id ON file_blob (id);

CREATE TABLE file (
    tenant_id     TEXT      NOT NULL,
    id            TEXT      NOT NULL,
    blob_id       TEXT      NOT NULL,
    name          TEXT      NOT NULL,
    -- In lower case, for the search.
    name_folded   TEXT      NOT NULL,
    folder        TEXT      NOT NULL,
    size          BIGINT    NOT NULL,
    sha256        TEXT      NOT NULL,
    media_type    TEXT      NOT NULL,
    state         TEXT      NOT NULL,
    -- Metadata, and what the sender said that the file is.
    details       JSON      NOT NULL,
    owner_id      TEXT      NOT NULL,
    version       BIGINT    NOT NULL,
    created_at    TIMESTAMP NOT NULL,
    updated_at    TIMESTAMP NOT NULL,
    -- When it went to the trash.
    deleted_at    TIMESTAMP,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, blob_id) REFERENCES file_blob (tenant_id, id)
);
CREATE INDEX file_by_folder ON file (tenant_id, folder, id);
CREATE INDEX file_by_blob ON file (tenant_id, blob_id);
CREATE INDEX file_deleted ON file (deleted_at) WHERE deleted_at IS NOT NULL;

-- What a tenant uses of its quota, in the row of the owner 00000000-0000-0000-0000-000000000000, and each of its owners.
CREATE TABLE file_usage (
    tenant_id TEXT   NOT NULL,
    owner_id  TEXT   NOT NULL,
    used      BIGINT NOT NULL,
    reserved  BIGINT NOT NULL,
    files     BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, owner_id)
);
