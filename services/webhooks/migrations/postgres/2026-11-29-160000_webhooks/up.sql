CREATE TABLE webhook_endpoint (
    tenant_id    uuid      NOT NULL,
    id           uuid      NOT NULL,
    url          text      NOT NULL,
    description  text      NOT NULL,
    -- Patterns of events, as a JSON array of texts.
    events       json      NOT NULL,
    -- Names of the headers; their values are sealed.
    header_names json      NOT NULL,
    headers_enc  bytea,
    signing      text      NOT NULL CHECK (signing IN ('hmac', 'ed25519')),
    state        text      NOT NULL CHECK (state IN ('active', 'paused', 'disabled', 'deleted')),
    state_reason text,
    version      bigint    NOT NULL,
    created_at   timestamp NOT NULL,
    updated_at   timestamp NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
-- For the worker that takes away what is deleted.
CREATE INDEX webhook_endpoint_deleted ON webhook_endpoint (updated_at) WHERE state = 'deleted';

-- How an endpoint has done so far. Changes with each attempt, so it is narrow and apart from the endpoint, whose version it is no
-- part of.
CREATE TABLE webhook_lane (
    tenant_id       uuid    NOT NULL,
    endpoint_id     uuid    NOT NULL PRIMARY KEY,
    narrowed        integer NOT NULL DEFAULT 0,
    failures        integer NOT NULL DEFAULT 0,
    failing_since   timestamp,
    held_until      timestamp,
    last_success_at timestamp,
    last_failure_at timestamp,
    FOREIGN KEY (tenant_id, endpoint_id) REFERENCES webhook_endpoint (tenant_id, id) ON DELETE CASCADE
) WITH (fillfactor = 50);

-- What deliveries are signed with. The one that does not expire is the present one; others are former ones that still count.
CREATE TABLE webhook_secret (
    tenant_id   uuid      NOT NULL,
    id          uuid      NOT NULL,
    endpoint_id uuid      NOT NULL,
    secret_enc  bytea     NOT NULL,
    public_key  text,
    created_at  timestamp NOT NULL,
    expires_at  timestamp,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, endpoint_id) REFERENCES webhook_endpoint (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX webhook_secret_of_endpoint ON webhook_secret (endpoint_id);

-- What is sent, once for all endpoints that get it. The id is that of the event.
CREATE TABLE webhook_message (
    tenant_id   uuid      NOT NULL,
    id          uuid      NOT NULL,
    kind        text      NOT NULL,
    payload     text      NOT NULL,
    traceparent text,
    created_at  timestamp NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX webhook_message_by_age ON webhook_message (created_at);

CREATE TABLE webhook_delivery (
    tenant_id    uuid      NOT NULL,
    id           uuid      NOT NULL,
    endpoint_id  uuid      NOT NULL,
    message_id   uuid      NOT NULL,
    kind         text      NOT NULL,
    state        text      NOT NULL CHECK (state IN ('pending', 'sending', 'delivered', 'failed')),
    due_at       timestamp NOT NULL,
    -- All attempts, and those since it was last begun anew: the place on the ladder.
    attempts     integer   NOT NULL DEFAULT 0,
    tries        integer   NOT NULL DEFAULT 0,
    -- Grows with each claim, and guards whatever is written of an attempt.
    lease        bigint    NOT NULL DEFAULT 0,
    worker       uuid,
    leased_until timestamp,
    started_at   timestamp,
    created_at   timestamp NOT NULL,
    finished_at  timestamp,
    last_status  integer,
    last_error   text,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, endpoint_id, message_id),
    FOREIGN KEY (tenant_id, endpoint_id) REFERENCES webhook_endpoint (tenant_id, id),
    FOREIGN KEY (tenant_id, message_id) REFERENCES webhook_message (tenant_id, id)
) WITH (fillfactor = 70);
CREATE INDEX webhook_delivery_due ON webhook_delivery (endpoint_id, due_at) WHERE state = 'pending';
CREATE INDEX webhook_delivery_sending ON webhook_delivery (endpoint_id) WHERE state = 'sending';
CREATE INDEX webhook_delivery_leased ON webhook_delivery (leased_until) WHERE state = 'sending';
CREATE INDEX webhook_delivery_listed ON webhook_delivery (tenant_id, endpoint_id, id);
CREATE INDEX webhook_delivery_of_message ON webhook_delivery (tenant_id, message_id);
CREATE INDEX webhook_delivery_by_age ON webhook_delivery (created_at);

CREATE TABLE webhook_attempt (
    tenant_id        uuid      NOT NULL,
    delivery_id      uuid      NOT NULL,
    number           integer   NOT NULL,
    endpoint_id      uuid      NOT NULL,
    at               timestamp NOT NULL,
    duration_ms      bigint    NOT NULL,
    status           integer,
    address          text,
    response_headers json      NOT NULL,
    response_body    text,
    error            text,
    PRIMARY KEY (tenant_id, delivery_id, number),
    FOREIGN KEY (tenant_id, delivery_id) REFERENCES webhook_delivery (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX webhook_attempt_by_age ON webhook_attempt (at);
CREATE INDEX webhook_attempt_of_endpoint ON webhook_attempt (tenant_id, endpoint_id, at);

-- The last line: a query that forgets its tenant sees nothing. FORCE is for the owner of the table, which the daemon is.
ALTER TABLE webhook_endpoint ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhook_endpoint FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON webhook_endpoint
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
ALTER TABLE webhook_lane ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhook_lane FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON webhook_lane
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
ALTER TABLE webhook_secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhook_secret FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON webhook_secret
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
ALTER TABLE webhook_message ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhook_message FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON webhook_message
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
ALTER TABLE webhook_delivery ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhook_delivery FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON webhook_delivery
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
ALTER TABLE webhook_attempt ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhook_attempt FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON webhook_attempt
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
