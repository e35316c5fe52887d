CREATE TABLE totp_factors (
    id           uuid      PRIMARY KEY,
    user_id      uuid      NOT NULL UNIQUE REFERENCES users (id) ON DELETE CASCADE,
    label        text,
    secret_enc   bytea     NOT NULL,
    last_step    bigint    NOT NULL,
    created_at   timestamp NOT NULL,
    confirmed_at timestamp
);

CREATE TABLE recovery_codes (
    user_id uuid      NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    number  integer   NOT NULL,
    phc     text      NOT NULL,
    used_at timestamp,
    PRIMARY KEY (user_id, number)
);

-- Sign-ins that wait for a second factor.
CREATE TABLE sign_in_flows (
    id         uuid      PRIMARY KEY,
    public_id  text      NOT NULL UNIQUE,
    user_id    uuid      NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    hash       bytea     NOT NULL,
    data       json      NOT NULL,
    tries      integer   NOT NULL,
    expires_at timestamp NOT NULL
);
CREATE INDEX sign_in_flows_by_expiry ON sign_in_flows (expires_at);
