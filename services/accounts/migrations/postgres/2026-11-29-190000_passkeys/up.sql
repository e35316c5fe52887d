-- Passkeys (WebAuthn credentials). `user_handle` is what authenticators know the user by: random, and the same for all of a user.
CREATE TABLE passkeys (
    id              uuid      PRIMARY KEY,
    user_id         uuid      NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    user_handle     bytea     NOT NULL,
    credential_id   bytea     NOT NULL UNIQUE,
    -- The public key and what was agreed upon at the registration.
    data            bytea     NOT NULL,
    transports      integer   NOT NULL,
    aaguid          text      NOT NULL,
    label           text,
    -- Whether it can be found without a user name; empty if the browser did not say.
    discoverable    boolean,
    backup_eligible boolean   NOT NULL,
    backup_state    boolean   NOT NULL,
    sign_count      bigint    NOT NULL,
    created_at      timestamp NOT NULL,
    last_used_at    timestamp
);
CREATE INDEX passkeys_by_user ON passkeys (user_id);

-- Ceremonies that wait for the answer of an authenticator. Each is good once.
CREATE TABLE passkey_ceremonies (
    id         uuid      PRIMARY KEY,
    public_id  text      NOT NULL UNIQUE,
    hash       bytea     NOT NULL,
    purpose    text      NOT NULL,
    user_id    uuid      REFERENCES users (id) ON DELETE CASCADE,
    session_id uuid,
    browser    bytea,
    state      bytea     NOT NULL,
    expires_at timestamp NOT NULL
);
CREATE INDEX passkey_ceremonies_by_expiry ON passkey_ceremonies (expires_at);
