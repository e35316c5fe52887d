-- Links and codes that are sent by mail: what the browser that asked holds, and the code that takes its place in another one.
ALTER TABLE one_time_tokens ADD COLUMN browser BLOB;
ALTER TABLE one_time_tokens ADD COLUMN code_hmac BLOB;
ALTER TABLE one_time_tokens ADD COLUMN tries INTEGER NOT NULL DEFAULT 0;
ALTER TABLE one_time_tokens ADD COLUMN address TEXT;
CREATE INDEX one_time_tokens_by_expiry ON one_time_tokens (expires_at);

-- Accounts to be, whose address is not proved yet. They hold neither the address nor the name.
CREATE TABLE registrations (
    id           TEXT      PRIMARY KEY,
    email        TEXT      NOT NULL,
    email_normal TEXT      NOT NULL UNIQUE,
    username     TEXT,
    full_name    TEXT,
    phc          TEXT,
    browser      BLOB     NOT NULL,
    public_id    TEXT      UNIQUE,
    hash         BLOB,
    code_hmac    BLOB,
    tries        INTEGER   NOT NULL,
    link_until   TIMESTAMP NOT NULL,
    created_at   TIMESTAMP NOT NULL,
    expires_at   TIMESTAMP NOT NULL
);
CREATE INDEX registrations_by_expiry ON registrations (expires_at);
