CREATE TABLE notification (
    tenant_id        uuid      NOT NULL,
    id               uuid      NOT NULL,
    category         text      NOT NULL,
    -- What a mail of a service is for: `accounts.password_reset`.
    purpose          text,
    -- Purpose, address and cause of a mail that is sent once.
    cause            text,
    template_id      uuid,
    template_version bigint,
    priority         integer   NOT NULL,
    -- JSON. Of a mail of a service it is in `sealed` where there is a key, and gone once the mail is not needed any more.
    content          text,
    sealed           bytea,
    is_secret        boolean   NOT NULL,
    send_at          timestamp,
    expires_at       timestamp,
    created_at       timestamp NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, cause)
);
-- For the worker that deletes old ones, whosever they are.
CREATE INDEX notification_by_age ON notification (created_at);

CREATE TABLE notification_delivery (
    tenant_id         uuid      NOT NULL,
    id                uuid      NOT NULL,
    notification_id   uuid      NOT NULL,
    channel           text      NOT NULL,
    -- As it is sent to.
    recipient         text      NOT NULL,
    -- The form by which it is compared.
    recipient_key     text      NOT NULL,
    name              text,
    user_id           uuid,
    state             text      NOT NULL,
    reason            text,
    -- What the next hop answered last.
    answer            text,
    attempts          integer   NOT NULL,
    -- When a relay was given the content; until its answer is written down nobody knows what it did.
    sending_since     timestamp,
    next_attempt_at   timestamp,
    unsubscribe_token text,
    updated_at        timestamp NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, notification_id, recipient_key, channel),
    FOREIGN KEY (tenant_id, notification_id) REFERENCES notification (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX notification_delivery_by_state ON notification_delivery (tenant_id, state, id);
CREATE INDEX notification_delivery_queued ON notification_delivery (next_attempt_at) WHERE state = 'queued';
CREATE UNIQUE INDEX notification_delivery_by_token ON notification_delivery (unsubscribe_token) WHERE unsubscribe_token IS NOT NULL;

CREATE TABLE notification_attempt (
    tenant_id   uuid    NOT NULL,
    delivery_id uuid    NOT NULL,
    number      integer NOT NULL,
    record      text    NOT NULL,
    PRIMARY KEY (tenant_id, delivery_id, number),
    FOREIGN KEY (tenant_id, delivery_id) REFERENCES notification_delivery (tenant_id, id) ON DELETE CASCADE
);

CREATE TABLE notification_inbox (
    tenant_id   uuid      NOT NULL,
    -- That of the delivery.
    id          uuid      NOT NULL,
    user_id     uuid      NOT NULL,
    category    text      NOT NULL,
    title       text      NOT NULL,
    body        text      NOT NULL,
    data        text,
    created_at  timestamp NOT NULL,
    expires_at  timestamp,
    read_at     timestamp,
    archived_at timestamp,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, id) REFERENCES notification_delivery (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX notification_inbox_by_user ON notification_inbox (tenant_id, user_id, id);
CREATE INDEX notification_inbox_unread ON notification_inbox (tenant_id, user_id) WHERE read_at IS NULL AND archived_at IS NULL;

CREATE TABLE notification_preference (
    tenant_id  uuid      NOT NULL,
    user_id    uuid      NOT NULL,
    -- `*` stands for all.
    category   text      NOT NULL,
    channel    text      NOT NULL,
    enabled    boolean   NOT NULL,
    updated_at timestamp NOT NULL,
    PRIMARY KEY (tenant_id, user_id, category, channel)
);

CREATE TABLE notification_suppression (
    tenant_id     uuid      NOT NULL,
    id            uuid      NOT NULL,
    channel       text      NOT NULL,
    recipient     text      NOT NULL,
    recipient_key text      NOT NULL,
    -- `*` stands for all.
    category      text      NOT NULL,
    reason        text      NOT NULL,
    detail        text,
    created_at    timestamp NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, channel, recipient_key, category)
);

CREATE TABLE notification_template (
    tenant_id   uuid      NOT NULL,
    id          uuid      NOT NULL,
    key         text      NOT NULL,
    description text,
    -- The number of the newest version; clients see it as `ETag`.
    version     bigint    NOT NULL,
    created_at  timestamp NOT NULL,
    updated_at  timestamp NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, key)
);

CREATE TABLE notification_template_version (
    tenant_id   uuid      NOT NULL,
    template_id uuid      NOT NULL,
    number      bigint    NOT NULL,
    subject     text,
    text        text,
    html        text,
    title       text,
    body        text,
    created_at  timestamp NOT NULL,
    PRIMARY KEY (tenant_id, template_id, number),
    FOREIGN KEY (tenant_id, template_id) REFERENCES notification_template (tenant_id, id) ON DELETE CASCADE
);

-- The last line: a query that forgets its tenant sees nothing. FORCE is for the owner of the table, which the daemon is.
ALTER TABLE notification ENABLE ROW LEVEL SECURITY;
ALTER TABLE notification FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notification
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
ALTER TABLE notification_delivery ENABLE ROW LEVEL SECURITY;
ALTER TABLE notification_delivery FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notification_delivery
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
ALTER TABLE notification_attempt ENABLE ROW LEVEL SECURITY;
ALTER TABLE notification_attempt FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notification_attempt
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
ALTER TABLE notification_inbox ENABLE ROW LEVEL SECURITY;
ALTER TABLE notification_inbox FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notification_inbox
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
ALTER TABLE notification_preference ENABLE ROW LEVEL SECURITY;
ALTER TABLE notification_preference FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notification_preference
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
ALTER TABLE notification_suppression ENABLE ROW LEVEL SECURITY;
ALTER TABLE notification_suppression FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notification_suppression
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
ALTER TABLE notification_template ENABLE ROW LEVEL SECURITY;
ALTER TABLE notification_template FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notification_template
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
ALTER TABLE notification_template_version ENABLE ROW LEVEL SECURITY;
ALTER TABLE notification_template_version FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notification_template_version
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
