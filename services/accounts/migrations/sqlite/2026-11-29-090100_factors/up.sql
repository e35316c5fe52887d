CREATE TABLE totp_factors (
    id           TEXT      PRIMARY KEY,
    user_id      TEXT      NOT NULL UNIQUE REFERENCES users (id) ON DELETE CASCADE,
    label        TEXT,
    secret_enc   BLOB      NOT NULL,
    last_step    BIGINT    NOT NULL,
    created_at   TIMESTAMP NOT NULL,
    confirmed_at TIMESTAMP
);

CREATE TABLE recovery_codes (
    user_id TEXT      NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    number  INTEGER   NOT NULL,
    phc     TEXT      NOT NULL,
    used_at TIMESTAMP,
    PRIMARY KEY (user_id, number)
);

-- Sign-ins that wait for a second factor.
CREATE TABLE sign_in_flows (
    id         TEXT      PRIMARY KEY,
    public_id  TEXT      NOT NULL UNIQUE,
    user_id    TEXT      NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    hash       BLOB      NOT NULL,
    data       JSON      NOT NULL,
    tries      INTEGER   NOT NULL,
    expires_at TIMESTAMP NOT NULL
);
CREATE INDEX sign_in_flows_by_expiry ON sign_in_flows (expires_at);
