-- Links and codes that are sent by mail: what the browser that asked holds, and the code that takes its place in another one.
ALTER TABLE one_time_tokens ADD COLUMN browser bytea;
ALTER TABLE one_time_tokens ADD COLUMN code_hmac bytea;
ALTER TABLE one_time_tokens ADD COLUMN tries integer NOT NULL DEFAULT 0;
ALTER TABLE one_time_tokens ADD COLUMN address text;
CREATE INDEX one_time_tokens_by_expiry ON one_time_tokens (expires_at);

-- Accounts to be, whose address is not proved yet. They hold neither the address nor the name.
CREATE TABLE registrations (
    id           uuid      PRIMARY KEY,
    email        text      NOT NULL,
    email_normal text      NOT NULL UNIQUE,
    username     text,
    full_name    text,
    phc          text,
    browser      bytea     NOT NULL,
    public_id    text      UNIQUE,
    hash         bytea,
    code_hmac    bytea,
    tries        integer   NOT NULL,
    link_until   timestamp NOT NULL,
    created_at   timestamp NOT NULL,
    expires_at   timestamp NOT NULL
);
CREATE INDEX registrations_by_expiry ON registrations (expires_at);
