CREATE TABLE webhook_endpoint (
    tenant_id    TEXT      NOT NULL,
    id           TEXT      NOT NULL,
    url          TEXT      NOT NULL,
    description  TEXT      NOT NULL,
    -- Patterns of events, as a JSON array of texts.
    events       JSON      NOT NULL,
    -- Names of the headers; their values are sealed.
    header_names JSON      NOT NULL,
    headers_enc  BLOB,
    signing      TEXT      NOT NULL CHECK (signing IN ('hmac', 'ed25519')),
    state        TEXT      NOT NULL CHECK (state IN ('active', 'paused', 'disabled', 'deleted')),
    state_reason TEXT,
    version      BIGINT    NOT NULL,
    created_at   TIMESTAMP NOT NULL,
    updated_at   TIMESTAMP NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
-- For the worker that takes away what is deleted.
CREATE INDEX webhook_endpoint_deleted ON webhook_endpoint (updated_at) WHERE state = 'deleted';

-- How an endpoint has done so far. Changes with each attempt, so it is narrow and apart from the endpoint, whose version it is no
-- part of.
CREATE TABLE webhook_lane (
    tenant_id       TEXT    NOT NULL,
    endpoint_id     TEXT    NOT NULL PRIMARY KEY,
    narrowed        INTEGER NOT NULL DEFAULT 0,
    failures        INTEGER NOT NULL DEFAULT 0,
    failing_since   TIMESTAMP,
    held_until      TIMESTAMP,
    last_success_at TIMESTAMP,
    last_failure_at TIMESTAMP,
    FOREIGN KEY (tenant_id, endpoint_id) REFERENCES webhook_endpoint (tenant_id, id) ON DELETE CASCADE
);

-- What deliveries are signed with. The one that does not expire is the present one; others are former ones that still count.
CREATE TABLE webhook_secret (
    tenant_id   TEXT      NOT NULL,
    id          TEXT      NOT NULL,
    endpoint_id TEXT      NOT NULL,
    secret_enc  BLOB     NOT NULL,
    public_key  TEXT,
    created_at  TIMESTAMP NOT NULL,
    expires_at  TIMESTAMP,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, endpoint_id) REFERENCES webhook_endpoint (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX webhook_secret_of_endpoint ON webhook_secret (endpoint_id);

-- What is sent, once for all endpoints that get it. The id is that of the event.
CREATE TABLE webhook_message (
    tenant_id   TEXT      NOT NULL,
    id          TEXT      NOT NULL,
    kind        TEXT      NOT NULL,
    payload     TEXT      NOT NULL,
    traceparent TEXT,
    created_at  TIMESTAMP NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX webhook_message_by_age ON webhook_message (created_at);

CREATE TABLE webhook_delivery (
    tenant_id    TEXT      NOT NULL,
    id           TEXT      NOT NULL,
    endpoint_id  TEXT      NOT NULL,
    message_id   TEXT      NOT NULL,
    kind         TEXT      NOT NULL,
    state        TEXT      NOT NULL CHECK (state IN ('pending', 'sending', 'delivered', 'failed')),
    due_at       TIMESTAMP NOT NULL,
    -- All attempts, and those since it was last begun anew: the place on the ladder.
    attempts     INTEGER   NOT NULL DEFAULT 0,
    tries        INTEGER   NOT NULL DEFAULT 0,
    -- Grows with each claim, and guards whatever is written of an attempt.
    lease        BIGINT    NOT NULL DEFAULT 0,
    worker       TEXT,
    leased_until TIMESTAMP,
    started_at   TIMESTAMP,
    created_at   TIMESTAMP NOT NULL,
    finished_at  TIMESTAMP,
    last_status  INTEGER,
    last_error   TEXT,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, endpoint_id, message_id),
    FOREIGN KEY (tenant_id, endpoint_id) REFERENCES webhook_endpoint (tenant_id, id),
    FOREIGN KEY (tenant_id, message_id) REFERENCES webhook_message (tenant_id, id)
);
CREATE INDEX webhook_delivery_due ON webhook_delivery (endpoint_id, due_at) WHERE state = 'pending';
CREATE INDEX webhook_delivery_sending ON webhook_delivery (endpoint_id) WHERE state = 'sending';
CREATE INDEX webhook_delivery_leased ON webhook_delivery (leased_until) WHERE state = 'sending';
CREATE INDEX webhook_delivery_listed ON webhook_delivery (tenant_id, endpoint_id, id);
CREATE INDEX webhook_delivery_of_message ON webhook_delivery (tenant_id, message_id);
CREATE INDEX webhook_delivery_by_age ON webhook_delivery (created_at);

CREATE TABLE webhook_attempt (
    tenant_id        TEXT      NOT NULL,
    delivery_id      TEXT      NOT NULL,
    number           INTEGER   NOT NULL,
    endpoint_id      TEXT      NOT NULL,
    at               TIMESTAMP NOT NULL,
    duration_ms      BIGINT    NOT NULL,
    status           INTEGER,
    address          TEXT,
    response_headers JSON      NOT NULL,
    response_body    TEXT,
    error            TEXT,
    PRIMARY KEY (tenant_id, delivery_id, number),
    FOREIGN KEY (tenant_id, delivery_id) REFERENCES webhook_delivery (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX webhook_attempt_by_age ON webhook_attempt (at);
CREATE INDEX webhook_attempt_of_endpoint ON webhook_attempt (tenant_id, endpoint_id, at);
