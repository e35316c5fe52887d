-- A browser of a user that takes push messages.
CREATE TABLE notification_push_subscription (
    tenant_id        uuid      NOT NULL,
    id               uuid      NOT NULL,
    user_id          uuid      NOT NULL,
    -- SHA-256 of its address at the push service, in hex: one browser has one row.
    endpoint_key     text      NOT NULL,
    -- The host of that address.
    push_service     text      NOT NULL,
    -- The address and the browser's keys: with them anybody could send it messages.
    subscription_enc bytea      NOT NULL,
    label            text,
    expires_at       timestamp,
    created_at       timestamp NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, endpoint_key)
);
CREATE INDEX notification_push_subscription_by_user ON notification_push_subscription (tenant_id, user_id, id);

-- When a user is not to be disturbed.
CREATE TABLE notification_quiet_hours (
    tenant_id  uuid      NOT NULL,
    user_id    uuid      NOT NULL,
    -- IANA name: `Europe/Berlin`.
    zone       text      NOT NULL,
    -- Minutes since midnight there.
    begins_at  integer   NOT NULL,
    ends_at    integer   NOT NULL,
    updated_at timestamp NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
);

-- The mail that further messages to a recipient join, until it is due.
CREATE TABLE notification_digest (
    tenant_id     uuid NOT NULL,
    recipient_key text NOT NULL,
    category      text NOT NULL,
    digest_key    text NOT NULL,
    -- The delivery that the others are sent with.
    delivery_id   uuid NOT NULL,
    due_at        timestamp NOT NULL,
    size          integer NOT NULL,
    PRIMARY KEY (tenant_id, recipient_key, category, digest_key)
);
CREATE INDEX notification_digest_by_delivery ON notification_digest (tenant_id, delivery_id);

-- What is sent with which delivery; the first of a digest with itself.
CREATE TABLE notification_digest_member (
    tenant_id   uuid NOT NULL,
    delivery_id uuid NOT NULL,
    first_id    uuid NOT NULL,
    PRIMARY KEY (tenant_id, delivery_id),
    FOREIGN KEY (tenant_id, delivery_id) REFERENCES notification_delivery (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX notification_digest_member_by_first ON notification_digest_member (tenant_id, first_id);

ALTER TABLE notification_push_subscription ENABLE ROW LEVEL SECURITY;
ALTER TABLE notification_push_subscription FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notification_push_subscription
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
ALTER TABLE notification_quiet_hours ENABLE ROW LEVEL SECURITY;
ALTER TABLE notification_quiet_hours FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notification_quiet_hours
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
ALTER TABLE notification_digest ENABLE ROW LEVEL SECURITY;
ALTER TABLE notification_digest FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notification_digest
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
ALTER TABLE notification_digest_member ENABLE ROW LEVEL SECURITY;
ALTER TABLE notification_digest_member FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notification_digest_member
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
