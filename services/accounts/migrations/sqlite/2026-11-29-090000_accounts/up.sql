CREATE TABLE tenants (
    id         TEXT      PRIMARY KEY,
    slug       TEXT      NOT NULL UNIQUE,
    name       TEXT      NOT NULL,
    status     TEXT      NOT NULL,
    version    BIGINT    NOT NULL,
    created_at TIMESTAMP NOT NULL
);

CREATE TABLE users (
    id                TEXT      PRIMARY KEY,
    email             TEXT,
    email_normal      TEXT      UNIQUE,
    email_verified_at TIMESTAMP,
    username          TEXT,
    username_normal   TEXT      UNIQUE,
    full_name         TEXT,
    locale            TEXT,
    status            TEXT      NOT NULL,
    managed_by        TEXT      REFERENCES tenants (id),
    version           BIGINT    NOT NULL,
    created_at        TIMESTAMP NOT NULL,
    updated_at        TIMESTAMP NOT NULL,
    deleted_at        TIMESTAMP,
    CHECK (email_normal IS NOT NULL OR username_normal IS NOT NULL)
);

CREATE TABLE passwords (
    user_id    TEXT      PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    phc        TEXT      NOT NULL,
    changed_at TIMESTAMP NOT NULL,
    -- The administrator who set it, or made the link that it was set by.
    set_by     TEXT
);

CREATE TABLE memberships (
    tenant_id TEXT      NOT NULL REFERENCES tenants (id),
    user_id   TEXT      NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    status    TEXT      NOT NULL,
    joined_at TIMESTAMP NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
);
CREATE INDEX memberships_by_user ON memberships (user_id);

CREATE TABLE roles (
    id          TEXT      PRIMARY KEY,
    tenant_id   TEXT      NOT NULL REFERENCES tenants (id),
    name        TEXT      NOT NULL,
    description TEXT      NOT NULL,
    is_system   BOOLEAN   NOT NULL,
    version     BIGINT    NOT NULL,
    created_at  TIMESTAMP NOT NULL,
    UNIQUE (tenant_id, id),
    UNIQUE (tenant_id, name)
);

CREATE TABLE role_permissions (
    tenant_id  TEXT NOT NULL,
    role_id    TEXT NOT NULL,
    permission TEXT NOT NULL,
    effect     TEXT NOT NULL CHECK (effect IN ('allow', 'deny')),
    PRIMARY KEY (tenant_id, role_id, permission, effect),
    FOREIGN KEY (tenant_id, role_id) REFERENCES roles (tenant_id, id) ON DELETE CASCADE
);

CREATE TABLE service_accounts (
    id         TEXT      PRIMARY KEY,
    tenant_id  TEXT      NOT NULL REFERENCES tenants (id),
    name       TEXT      NOT NULL,
    status     TEXT      NOT NULL,
    version    BIGINT    NOT NULL,
    created_at TIMESTAMP NOT NULL,
    UNIQUE (tenant_id, id),
    UNIQUE (tenant_id, name)
);

CREATE TABLE role_bindings (
    id                 TEXT      PRIMARY KEY,
    tenant_id          TEXT      NOT NULL,
    user_id            TEXT,
    service_account_id TEXT,
    role_id            TEXT      NOT NULL,
    granted_by         TEXT      NOT NULL,
    created_at         TIMESTAMP NOT NULL,
    expires_at         TIMESTAMP,
    CHECK ((user_id IS NULL) <> (service_account_id IS NULL)),
    UNIQUE (tenant_id, user_id, role_id),
    UNIQUE (tenant_id, service_account_id, role_id),
    FOREIGN KEY (tenant_id, role_id) REFERENCES roles (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, user_id) REFERENCES memberships (tenant_id, user_id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, service_account_id) REFERENCES service_accounts (tenant_id, id) ON DELETE CASCADE
);

CREATE TABLE api_keys (
    id                 TEXT      PRIMARY KEY,
    public_id          TEXT      NOT NULL UNIQUE,
    tenant_id          TEXT      NOT NULL,
    user_id            TEXT,
    service_account_id TEXT,
    name               TEXT      NOT NULL,
    hash               BLOB      NOT NULL,
    next_hash          BLOB ,
    hash_until         TIMESTAMP,
    rules              JSON      NOT NULL,
    version            BIGINT    NOT NULL,
    created_at         TIMESTAMP NOT NULL,
    expires_at         TIMESTAMP,
    last_used_at       TIMESTAMP,
    next_last_used_at  TIMESTAMP,
    revoked_at         TIMESTAMP,
    CHECK ((user_id IS NULL) <> (service_account_id IS NULL)),
    FOREIGN KEY (tenant_id, user_id) REFERENCES memberships (tenant_id, user_id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, service_account_id) REFERENCES service_accounts (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX api_keys_by_tenant ON api_keys (tenant_id, id);

CREATE TABLE sessions (
    id           TEXT      PRIMARY KEY,
    tenant_id    TEXT      NOT NULL,
    user_id      TEXT      NOT NULL,
    kind         TEXT      NOT NULL CHECK (kind IN ('cookie', 'token')),
    token_hash   BLOB      UNIQUE,
    acr          INTEGER   NOT NULL,
    amr          TEXT      NOT NULL,
    auth_time    TIMESTAMP NOT NULL,
    client       JSON      NOT NULL,
    created_at   TIMESTAMP NOT NULL,
    last_seen_at TIMESTAMP NOT NULL,
    idle_until   TIMESTAMP NOT NULL,
    expires_at   TIMESTAMP NOT NULL,
    ended_at     TIMESTAMP,
    end_reason   TEXT,
    UNIQUE (tenant_id, id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES memberships (tenant_id, user_id) ON DELETE CASCADE
);
CREATE INDEX sessions_by_user ON sessions (user_id, ended_at);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

CREATE TABLE session_refresh (
    session_id    TEXT      PRIMARY KEY,
    tenant_id     TEXT      NOT NULL,
    salt          BLOB      NOT NULL,
    generation    BIGINT    NOT NULL,
    confirmed_gen BIGINT    NOT NULL,
    rotated_at    TIMESTAMP NOT NULL,
    lost_replays  INTEGER   NOT NULL,
    FOREIGN KEY (tenant_id, session_id) REFERENCES sessions (tenant_id, id) ON DELETE CASCADE
);

CREATE TABLE devices (
    id          TEXT      PRIMARY KEY,
    user_id     TEXT      NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    secret_hash BLOB      NOT NULL UNIQUE,
    first_seen  TIMESTAMP NOT NULL,
    last_seen   TIMESTAMP NOT NULL
);
CREATE INDEX devices_by_user ON devices (user_id);

CREATE TABLE one_time_tokens (
    id         TEXT      PRIMARY KEY,
    public_id  TEXT      NOT NULL UNIQUE,
    user_id    TEXT      NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    purpose    TEXT      NOT NULL,
    hash       BLOB      NOT NULL,
    bound_to   TEXT      NOT NULL,
    created_at TIMESTAMP NOT NULL,
    expires_at TIMESTAMP NOT NULL,
    used_at    TIMESTAMP,
    -- The administrator who made it.
    made_by    TEXT
);
CREATE INDEX one_time_tokens_by_user ON one_time_tokens (user_id, purpose);

CREATE TABLE login_throttle (
    key_hmac     BLOB      PRIMARY KEY,
    failures     INTEGER   NOT NULL,
    window_start TIMESTAMP NOT NULL,
    until        TIMESTAMP NOT NULL
);

CREATE TABLE signing_keys (
    id          TEXT      PRIMARY KEY,
    kid         TEXT      NOT NULL UNIQUE,
    alg         TEXT      NOT NULL,
    public_jwk  JSON      NOT NULL,
    private_enc BLOB      NOT NULL,
    created_at  TIMESTAMP NOT NULL,
    activate_at TIMESTAMP NOT NULL,
    retire_at   TIMESTAMP,
    revoked_at  TIMESTAMP
);

CREATE TABLE secret_keys (
    id         TEXT      PRIMARY KEY,
    number     INTEGER   NOT NULL UNIQUE,
    secret_enc BLOB      NOT NULL,
    created_at TIMESTAMP NOT NULL
);

CREATE TABLE accounts_changes (
    seq     INTEGER   PRIMARY KEY AUTOINCREMENT,
    kind    TEXT      NOT NULL,
    subject TEXT      NOT NULL,
    at      TIMESTAMP NOT NULL
);

INSERT INTO tenants (id, slug, name, status, version, created_at)
VALUES ('01900000-0000-7000-8000-000000000001', 'default', 'Default', 'active', 1, '2026-11-28 00:00:00.000000');

