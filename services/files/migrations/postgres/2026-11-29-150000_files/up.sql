-- Bytes in the store. The row is there before the first byte and until after the last: `writing` while they arrive,
-- `kept` while files refer to them, `dropping` until the store has deleted them.
CREATE TABLE file_blob (
    tenant_id   uuid      NOT NULL,
    id          uuid      NOT NULL,
    owner_id    uuid      NOT NULL,
    state       text      NOT NULL,
    size        bigint    NOT NULL,
    -- How many files have these bytes.
    refs        bigint    NOT NULL,
    -- What is held of the quota while the size is not known.
    reserved    bigint    NOT NULL,
    -- Until when an instance writes. One that ended leaves it to run out.
    lease_until timestamp NOT NULL,
    created_at  timestamp NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX file_blob_pending ON file_blob (state, lease_until) WHERE state <> 'kept';
CREATE INDEX file_blob_by_id ON file_blob (id);

CREATE TABLE file (
    tenant_id     uuid      NOT NULL,
    id            uuid      NOT NULL,
    blob_id       uuid      NOT NULL,
    name          text      NOT NULL,
    -- In lower case, for the search.
    name_folded   text      NOT NULL,
    folder        text      NOT NULL,
    size          bigint    NOT NULL,
    sha256        text      NOT NULL,
    media_type    text      NOT NULL,
    state         text      NOT NULL,
    -- Metadata, and what the sender said that the file is.
    details       json      NOT NULL,
    owner_id      uuid      NOT NULL,
    version       bigint    NOT NULL,
    created_at    timestamp NOT NULL,
    updated_at    timestamp NOT NULL,
    -- When it went to the trash.
    deleted_at    timestamp,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, blob_id) REFERENCES file_blob (tenant_id, id)
);
CREATE INDEX file_by_folder ON file (tenant_id, folder, id);
CREATE INDEX file_by_blob ON file (tenant_id, blob_id);
CREATE INDEX file_deleted ON file (deleted_at) WHERE deleted_at IS NOT NULL;

-- What a tenant uses of its quota, in the row of the owner 00000000-0000-0000-0000-000000000000, and each of its owners.
CREATE TABLE file_usage (
    tenant_id uuid   NOT NULL,
    owner_id  uuid   NOT NULL,
    used      bigint NOT NULL,
    reserved  bigint NOT NULL,
    files     bigint NOT NULL,
    PRIMARY KEY (tenant_id, owner_id)
);

ALTER TABLE file_blob ENABLE ROW LEVEL SECURITY;
ALTER TABLE file_blob FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON file_blob
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
ALTER TABLE file ENABLE ROW LEVEL SECURITY;
ALTER TABLE file FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON file
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
ALTER TABLE file_usage ENABLE ROW LEVEL SECURITY;
ALTER TABLE file_usage FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON file_usage
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
