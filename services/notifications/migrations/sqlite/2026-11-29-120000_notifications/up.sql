CREATE TABLE notification (
    tenant_id        TEXT      NOT NULL,
    id               TEXT      NOT NULL,
    category         TEXT      NOT NULL,
    -- What a mail of a service is for: `accounts.password_reset`.
    purpose          TEXT,
    -- Purpose, address and cause of a mail that is sent once.
    cause            TEXT,
    template_id      TEXT,
    template_version BIGINT,
    priority         INTEGER   NOT NULL,
    -- JSON. Of a mail of a service it is in `sealed` where there is a key, and gone once the mail is not needed any more.
    content          TEXT,
    sealed           BLOB,
    is_secret        BOOLEAN   NOT NULL,
    send_at          TIMESTAMP,
    expires_at       TIMESTAMP,
    created_at       TIMESTAMP NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, cause)
);
-- For the worker that deletes old ones, whosever they are.
CREATE INDEX notification_by_age ON notification (created_at);

CREATE TABLE notification_delivery (
    tenant_id         TEXT      NOT NULL,
    id                TEXT      NOT NULL,
    notification_id   TEXT      NOT NULL,
    channel           TEXT      NOT NULL,
    -- As it is sent to.
    recipient         TEXT      NOT NULL,
    -- The form by which it is compared.
    recipient_key     TEXT      NOT NULL,
    name              TEXT,
    user_id           TEXT,
    state             TEXT      NOT NULL,
    reason            TEXT,
    -- What the next hop answered last.
    answer            TEXT,
    attempts          INTEGER   NOT NULL,
    -- When a relay was given the content; until its answer is written down nobody knows what it did.
    sending_since     TIMESTAMP,
    next_attempt_at   TIMESTAMP,
    unsubscribe_token TEXT,
    updated_at        TIMESTAMP NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, notification_id, recipient_key, channel),
    FOREIGN KEY (tenant_id, notification_id) REFERENCES notification (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX notification_delivery_by_state ON notification_delivery (tenant_id, state, id);
CREATE INDEX notification_delivery_queued ON notification_delivery (next_attempt_at) WHERE state = 'queued';
CREATE UNIQUE INDEX notification_delivery_by_token ON notification_delivery (unsubscribe_token) WHERE unsubscribe_token IS NOT NULL;

CREATE TABLE notification_attempt (
    tenant_id   TEXT    NOT NULL,
    delivery_id TEXT    NOT NULL,
    number      INTEGER NOT NULL,
    record      TEXT    NOT NULL,
    PRIMARY KEY (tenant_id, delivery_id, number),
    FOREIGN KEY (tenant_id, delivery_id) REFERENCES notification_delivery (tenant_id, id) ON DELETE CASCADE
);

CREATE TABLE notification_inbox (
    tenant_id   TEXT      NOT NULL,
    -- That of the delivery.
    id          TEXT      NOT NULL,
    user_id     TEXT      NOT NULL,
    category    TEXT      NOT NULL,
    title       TEXT      NOT NULL,
    body        TEXT      NOT NULL,
    data        TEXT,
    created_at  TIMESTAMP NOT NULL,
    expires_at  TIMESTAMP,
    read_at     TIMESTAMP,
    archived_at TIMESTAMP,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, id) REFERENCES notification_delivery (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX notification_inbox_by_user ON notification_inbox (tenant_id, user_id, id);
CREATE INDEX notification_inbox_unread ON notification_inbox (tenant_id, user_id) WHERE read_at IS NULL AND archived_at IS NULL;

CREATE TABLE notification_preference (
    tenant_id  TEXT      NOT NULL,
    user_id    TEXT      NOT NULL,
    -- `*` stands for all.
    category   TEXT      NOT NULL,
    channel    TEXT      NOT NULL,
    enabled    BOOLEAN   NOT NULL,
    updated_at TIMESTAMP NOT NULL,
    PRIMARY KEY (tenant_id, user_id, category, channel)
);

CREATE TABLE notification_suppression (
    tenant_id     TEXT      NOT NULL,
    id            TEXT      NOT NULL,
    channel       TEXT      NOT NULL,
    recipient     TEXT      NOT NULL,
    recipient_key TEXT      NOT NULL,
    -- `*` stands for all.
    category      TEXT      NOT NULL,
    reason        TEXT      NOT NULL,
    detail        TEXT,
    created_at    TIMESTAMP NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, channel, recipient_key, category)
);

CREATE TABLE notification_template (
    tenant_id   TEXT      NOT NULL,
    id          TEXT      NOT NULL,
    key         TEXT      NOT NULL,
    description TEXT,
    -- The number of the newest version; clients see it as `ETag`.
    version     BIGINT    NOT NULL,
    created_at  TIMESTAMP NOT NULL,
    updated_at  TIMESTAMP NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, key)
);

CREATE TABLE notification_template_version (
    tenant_id   TEXT      NOT NULL,
    template_id TEXT      NOT NULL,
    number      BIGINT    NOT NULL,
    subject     TEXT,
    text        TEXT,
    html        TEXT,
    title       TEXT,
    body        TEXT,
    created_at  TIMESTAMP NOT NULL,
    PRIMARY KEY (tenant_id, template_id, number),
    FOREIGN KEY (tenant_id, template_id) REFERENCES notification_template (tenant_id, id) ON DELETE CASCADE
);
