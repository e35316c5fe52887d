-- Requests that created something, by the key that their client gave them, with the answer that it got.
CREATE TABLE idempotency_key (
    id            uuid PRIMARY KEY NOT NULL,
    tenant_id     uuid NOT NULL,
    route         text NOT NULL,
    key           text NOT NULL,
    fingerprint   bytea NOT NULL,
    fence         bigint NOT NULL,
    claimed_until timestamp NOT NULL,
    status        integer,
    location      text,
    etag          text,
    body          bytea,
    expires_at    timestamp NOT NULL,
    UNIQUE (tenant_id, route, key)
);
CREATE INDEX idempotency_key_by_end ON idempotency_key (expires_at);
INSERT INTO schema_compatible (version) VALUES ('20261128000002');
