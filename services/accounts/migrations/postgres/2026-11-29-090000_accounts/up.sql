CREATE TABLE tenants (
    id         uuid      PRIMARY KEY,
    slug       text      NOT NULL UNIQUE,
    name       text      NOT NULL,
    status     text      NOT NULL,
    version    bigint    NOT NULL,
    created_at timestamp NOT NULL
);

CREATE TABLE users (
    id                uuid      PRIMARY KEY,
    email             text,
    email_normal      text      UNIQUE,
    email_verified_at timestamp,
    username          text,
    username_normal   text      UNIQUE,
    full_name         text,
    locale            text,
    status            text      NOT NULL,
    managed_by        uuid      REFERENCES tenants (id),
    version           bigint    NOT NULL,
    created_at        timestamp NOT NULL,
    updated_at        timestamp NOT NULL,
    deleted_at        timestamp,
    CHECK (email_normal IS NOT NULL OR username_normal IS NOT NULL)
);

CREATE TABLE passwords (
    user_id    uuid      PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    phc        text      NOT NULL,
    changed_at timestamp NOT NULL,
    -- The administrator who set it, or made the link that it was set by.
    set_by     uuid
);

CREATE TABLE memberships (
    tenant_id uuid      NOT NULL REFERENCES tenants (id),
    user_id   uuid      NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    status    text      NOT NULL,
    joined_at timestamp NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
);
CREATE INDEX memberships_by_user ON memberships (user_id);

CREATE TABLE roles (
    id          uuid      PRIMARY KEY,
    tenant_id   uuid      NOT NULL REFERENCES tenants (id),
    name        text      NOT NULL,
    description text      NOT NULL,
    is_system   boolean   NOT NULL,
    version     bigint    NOT NULL,
    created_at  timestamp NOT NULL,
    UNIQUE (tenant_id, id),
    UNIQUE (tenant_id, name)
);

CREATE TABLE role_permissions (
    tenant_id  uuid NOT NULL,
    role_id    uuid NOT NULL,
    permission text NOT NULL,
    effect     text NOT NULL CHECK (effect IN ('allow', 'deny')),
    PRIMARY KEY (tenant_id, role_id, permission, effect),
    FOREIGN KEY (tenant_id, role_id) REFERENCES roles (tenant_id, id) ON DELETE CASCADE
);

CREATE TABLE service_accounts (
    id         uuid      PRIMARY KEY,
    tenant_id  uuid      NOT NULL REFERENCES tenants (id),
    name       text      NOT NULL,
    status     text      NOT NULL,
    version    bigint    NOT NULL,
    created_at timestamp NOT NULL,
    UNIQUE (tenant_id, id),
    UNIQUE (tenant_id, name)
);

CREATE TABLE role_bindings (
    id                 uuid      PRIMARY KEY,
    tenant_id          uuid      NOT NULL,
    user_id            uuid,
    service_account_id uuid,
    role_id            uuid      NOT NULL,
    granted_by         text      NOT NULL,
    created_at         timestamp NOT NULL,
    expires_at         timestamp,
    CHECK ((user_id IS NULL) <> (service_account_id IS NULL)),
    UNIQUE (tenant_id, user_id, role_id),
    UNIQUE (tenant_id, service_account_id, role_id),
    FOREIGN KEY (tenant_id, role_id) REFERENCES roles (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, user_id) REFERENCES memberships (tenant_id, user_id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, service_account_id) REFERENCES service_accounts (tenant_id, id) ON DELETE CASCADE
);

CREATE TABLE api_keys (
    id                 uuid      PRIMARY KEY,
    public_id          text      NOT NULL UNIQUE,
    tenant_id          uuid      NOT NULL,
    user_id            uuid,
    service_account_id uuid,
    name               text      NOT NULL,
    hash               bytea     NOT NULL,
    next_hash          bytea,
    hash_until         timestamp,
    rules              json      NOT NULL,
    version            bigint    NOT NULL,
    created_at         timestamp NOT NULL,
    expires_at         timestamp,
    last_used_at       timestamp,
    next_last_used_at  timestamp,
    revoked_at         timestamp,
    CHECK ((user_id IS NULL) <> (service_account_id IS NULL)),
    FOREIGN KEY (tenant_id, user_id) REFERENCES memberships (tenant_id, user_id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, service_account_id) REFERENCES service_accounts (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX api_keys_by_tenant ON api_keys (tenant_id, id);

CREATE TABLE sessions (
    id           uuid      PRIMARY KEY,
    tenant_id    uuid      NOT NULL,
    user_id      uuid      NOT NULL,
    kind         text      NOT NULL CHECK (kind IN ('cookie', 'token')),
    token_hash   bytea     UNIQUE,
    acr          integer   NOT NULL,
    amr          text      NOT NULL,
    auth_time    timestamp NOT NULL,
    client       json      NOT NULL,
    created_at   timestamp NOT NULL,
    last_seen_at timestamp NOT NULL,
    idle_until   timestamp NOT NULL,
    expires_at   timestamp NOT NULL,
    ended_at     timestamp,
    end_reason   text,
    UNIQUE (tenant_id, id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES memberships (tenant_id, user_id) ON DELETE CASCADE
);
CREATE INDEX sessions_by_user ON sessions (user_id, ended_at);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

CREATE TABLE session_refresh (
    session_id    uuid      PRIMARY KEY,
    tenant_id     uuid      NOT NULL,
    salt          bytea     NOT NULL,
    generation    bigint    NOT NULL,
    confirmed_gen bigint    NOT NULL,
    rotated_at    timestamp NOT NULL,
    lost_replays  integer   NOT NULL,
    FOREIGN KEY (tenant_id, session_id) REFERENCES sessions (tenant_id, id) ON DELETE CASCADE
);

CREATE TABLE devices (
    id          uuid      PRIMARY KEY,
    user_id     uuid      NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    secret_hash bytea     NOT NULL UNIQUE,
    first_seen  timestamp NOT NULL,
    last_seen   timestamp NOT NULL
);
CREATE INDEX devices_by_user ON devices (user_id);

CREATE TABLE one_time_tokens (
    id         uuid      PRIMARY KEY,
    public_id  text      NOT NULL UNIQUE,
    user_id    uuid      NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    purpose    text      NOT NULL,
    hash       bytea     NOT NULL,
    bound_to   text      NOT NULL,
    created_at timestamp NOT NULL,
    expires_at timestamp NOT NULL,
    used_at    timestamp,
    -- The administrator who made it.
    made_by    uuid
);
CREATE INDEX one_time_tokens_by_user ON one_time_tokens (user_id, purpose);

CREATE TABLE login_throttle (
    key_hmac     bytea     PRIMARY KEY,
    failures     integer   NOT NULL,
    window_start timestamp NOT NULL,
    until        timestamp NOT NULL
);

CREATE TABLE signing_keys (
    id          uuid      PRIMARY KEY,
    kid         text      NOT NULL UNIQUE,
    alg         text      NOT NULL,
    public_jwk  json      NOT NULL,
    private_enc bytea     NOT NULL,
    created_at  timestamp NOT NULL,
    activate_at timestamp NOT NULL,
    retire_at   timestamp,
    revoked_at  timestamp
);

CREATE TABLE secret_keys (
    id         uuid      PRIMARY KEY,
    number     integer   NOT NULL UNIQUE,
    secret_enc bytea     NOT NULL,
    created_at timestamp NOT NULL
);

CREATE TABLE accounts_changes (
    seq     bigint    GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind    text      NOT NULL,
    subject uuid      NOT NULL,
    at      timestamp NOT NULL
);

INSERT INTO tenants (id, slug, name, status, version, created_at)
VALUES ('01900000-0000-7000-8000-000000000001', 'default', 'Default', 'active', 1, '2026-11-28 00:00:00');

-- Row-level security is the last line: what has no scope, and what has another tenant's, sees and writes nothing.
ALTER TABLE memberships ENABLE ROW LEVEL SECURITY;
ALTER TABLE memberships FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON memberships USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
ALTER TABLE roles ENABLE ROW LEVEL SECURITY;
ALTER TABLE roles FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON roles USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
ALTER TABLE role_permissions ENABLE ROW LEVEL SECURITY;
ALTER TABLE role_permissions FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON role_permissions USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
ALTER TABLE service_accounts ENABLE ROW LEVEL SECURITY;
ALTER TABLE service_accounts FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON service_accounts USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
ALTER TABLE role_bindings ENABLE ROW LEVEL SECURITY;
ALTER TABLE role_bindings FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON role_bindings USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
ALTER TABLE api_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE api_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON api_keys USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
ALTER TABLE sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE sessions FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON sessions USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
ALTER TABLE session_refresh ENABLE ROW LEVEL SECURITY;
ALTER TABLE session_refresh FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON session_refresh USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
