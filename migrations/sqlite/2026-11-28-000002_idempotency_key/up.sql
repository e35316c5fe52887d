-- Requests that created something, by the key that their client gave them, with the answer that it got.
CREATE TABLE idempotency_key (
    id            TEXT PRIMARY KEY NOT NULL,
    tenant_id     TEXT NOT NULL,
    route         TEXT NOT NULL,
    key           TEXT NOT NULL,
    fingerprint   BLOB NOT NULL,
    fence         BIGINT NOT NULL,
    claimed_until TIMESTAMP NOT NULL,
    status        INTEGER,
    location      TEXT,
    etag          TEXT,
    body          BLOB,
    expires_at    TIMESTAMP NOT NULL,
    UNIQUE (tenant_id, route, key)
);
CREATE INDEX idempotency_key_by_end ON idempotency_key (expires_at);
INSERT INTO schema_compatible (version) VALUES ('20261128000002');
