-- A browser of a user that takes push messages.
CREATE TABLE notification_push_subscription (
    tenant_id        TEXT      NOT NULL,
    id               TEXT      NOT NULL,
    user_id          TEXT      NOT NULL,
    -- SHA-256 of its address at the push service, in hex: one browser has one row.
    endpoint_key     TEXT      NOT NULL,
    -- The host of that address.
    push_service     TEXT      NOT NULL,
    -- The address and the browser's keys: with them anybody could send it messages.
    subscription_enc BLOB      NOT NULL,
    label            TEXT,
    expires_at       TIMESTAMP,
    created_at       TIMESTAMP NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, endpoint_key)
);
CREATE INDEX notification_push_subscription_by_user ON notification_push_subscription (tenant_id, user_id, id);

-- When a user is not to be disturbed.
CREATE TABLE notification_quiet_hours (
    tenant_id  TEXT      NOT NULL,
    user_id    TEXT      NOT NULL,
    -- IANA name: `Europe/Berlin`.
    zone       TEXT      NOT NULL,
    -- Minutes since midnight there.
    begins_at  INTEGER   NOT NULL,
    ends_at    INTEGER   NOT NULL,
    updated_at TIMESTAMP NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
);

-- The mail that further messages to a recipient join, until it is due.
CREATE TABLE notification_digest (
    tenant_id     TEXT NOT NULL,
    recipient_key TEXT NOT NULL,
    category      TEXT NOT NULL,
    digest_key    TEXT NOT NULL,
    -- The delivery that the others are sent with.
    delivery_id   TEXT NOT NULL,
    due_at        TIMESTAMP NOT NULL,
    size          INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, recipient_key, category, digest_key)
);
CREATE INDEX notification_digest_by_delivery ON notification_digest (tenant_id, delivery_id);

-- What is sent with which delivery; the first of a digest with itself.
CREATE TABLE notification_digest_member (
    tenant_id   TEXT NOT NULL,
    delivery_id TEXT NOT NULL,
    first_id    TEXT NOT NULL,
    PRIMARY KEY (tenant_id, delivery_id),
    FOREIGN KEY (tenant_id, delivery_id) REFERENCES notification_delivery (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX notification_digest_member_by_first ON notification_digest_member (tenant_id, first_id);
