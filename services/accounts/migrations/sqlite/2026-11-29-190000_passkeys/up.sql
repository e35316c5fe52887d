-- Passkeys (WebAuthn credentials). `user_handle` is what authenticators know the user by: random, and the same for all of a user.
CREATE TABLE passkeys (
    id              TEXT      PRIMARY KEY,
    user_id         TEXT      NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    user_handle     BLOB      NOT NULL,
    credential_id   BLOB      NOT NULL UNIQUE,
    -- The public key and what was agreed upon at the registration.
    data            BLOB      NOT NULL,
    transports      INTEGER   NOT NULL,
    aaguid          TEXT      NOT NULL,
    label           TEXT,
    -- Whether it can be found without a user name; empty if the browser did not say.
    discoverable    BOOLEAN,
    backup_eligible BOOLEAN   NOT NULL,
    backup_state    BOOLEAN   NOT NULL,
    sign_count      BIGINT    NOT NULL,
    created_at      TIMESTAMP NOT NULL,
    last_used_at    TIMESTAMP
);
CREATE INDEX passkeys_by_user ON passkeys (user_id);

-- Ceremonies that wait for the answer of an authenticator. Each is good once.
CREATE TABLE passkey_ceremonies (
    id         TEXT      PRIMARY KEY,
    public_id  TEXT      NOT NULL UNIQUE,
    hash       BLOB      NOT NULL,
    purpose    TEXT      NOT NULL,
    user_id    TEXT      REFERENCES users (id) ON DELETE CASCADE,
    session_id TEXT,
    browser    BLOB,
    state      BLOB      NOT NULL,
    expires_at TIMESTAMP NOT NULL
);
CREATE INDEX passkey_ceremonies_by_expiry ON passkey_ceremonies (expires_at);
