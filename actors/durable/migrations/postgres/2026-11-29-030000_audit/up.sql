-- The audit log: rows are written in the transaction of the act, and never changed. Their order is (xid, position), as
-- that of events is. Those of the system have the nil id as their tenant.
CREATE SEQUENCE audit_position;
CREATE TABLE audit_entry (
    xid           bigint    NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),
    position      bigint    NOT NULL DEFAULT nextval('audit_position'),
    id            uuid      NOT NULL PRIMARY KEY,
    tenant_id     uuid      NOT NULL,
    at            timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    actor         text      NOT NULL,
    action        text      NOT NULL,
    resource_type text      NOT NULL,
    resource_id   text      NOT NULL,
    outcome       text      NOT NULL,
    reason        text,
    details       json      NOT NULL,
    subject       uuid,
    personal      bytea,
    trace_id      text
);
CREATE INDEX audit_entry_in_order ON audit_entry (xid, position);
CREATE INDEX audit_entry_by_position ON audit_entry (position);
CREATE INDEX audit_entry_of_tenant ON audit_entry (tenant_id, at);

-- The chain of each tenant: link after link, in the order of commits.
CREATE TABLE audit_link (
    tenant_id uuid   NOT NULL,
    number    bigint NOT NULL,
    entry_id  uuid   NOT NULL UNIQUE,
    hash      bytea  NOT NULL,
    PRIMARY KEY (tenant_id, number)
);

-- Where each chain begins, behind what retention has taken away, and where it ends.
CREATE TABLE audit_chain (
    tenant_id     uuid      NOT NULL PRIMARY KEY,
    start         bigint    NOT NULL CHECK (start >= 0),
    number        bigint    NOT NULL CHECK (number >= 0),
    hash          bytea     NOT NULL,
    checked       bigint    NOT NULL CHECK (checked >= 0),
    checked_at    timestamp NOT NULL
);
CREATE INDEX audit_chain_unchecked ON audit_chain (checked_at) WHERE number > checked;

-- What the hash of a link was at some moment, signed. `previous` is the hash of the checkpoint before it.
CREATE TABLE audit_checkpoint (
    tenant_id uuid      NOT NULL,
    number    bigint    NOT NULL,
    hash      bytea     NOT NULL,
    previous  bytea,
    at        timestamp NOT NULL,
    key_id    uuid,
    signature bytea,
    PRIMARY KEY (tenant_id, number)
);
CREATE INDEX audit_checkpoint_by_time ON audit_checkpoint (at);

-- Keys that personal fields of entries are encrypted with: one for each person of a tenant, itself sealed.
CREATE TABLE audit_subject (
    id        uuid  NOT NULL PRIMARY KEY,
    tenant_id uuid  NOT NULL,
    subject   uuid  NOT NULL,
    key       bytea NOT NULL,
    UNIQUE (tenant_id, subject)
);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['audit_entry', 'audit_link', 'audit_chain', 'audit_checkpoint', 'audit_subject'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON %I '
            'USING (current_setting(''dotmac.tenant_id'', true) IN (tenant_id::text, ''*''))', name);
    END LOOP;
END $$;

-- The keys that checkpoints are signed with, sealed.
CREATE TABLE audit_key (
    id   uuid  NOT NULL PRIMARY KEY,
    seed bytea NOT NULL
);

-- Behind which entry the sealer goes on, and the register: what it has signed of all chains. One row.
CREATE TABLE audit_sealer (
    id       integer NOT NULL PRIMARY KEY CHECK (id = 1),
    xid      bigint  NOT NULL,
    position bigint  NOT NULL,
    register text
);
INSERT INTO audit_sealer (id, xid, position) VALUES (1, 0, 0);

CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are never changed', TG_TABLE_NAME;
END $$;
CREATE TRIGGER append_only BEFORE UPDATE ON audit_entry FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER append_only BEFORE UPDATE ON audit_link FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER append_only BEFORE UPDATE ON audit_checkpoint FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
