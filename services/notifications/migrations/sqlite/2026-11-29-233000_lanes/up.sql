-- How a URL that is called has done so far.
CREATE TABLE notification_lane (
    tenant_id     TEXT      NOT NULL,
    -- The URL.
    receiver      TEXT      NOT NULL,
    narrowed      INTEGER   NOT NULL DEFAULT 0,
    failures      INTEGER   NOT NULL DEFAULT 0,
    failing_since TIMESTAMP,
    held_until    TIMESTAMP,
    -- When the last of those has its turn that found no room.
    turn_at       TIMESTAMP,
    updated_at    TIMESTAMP NOT NULL,
    PRIMARY KEY (tenant_id, receiver)
);
CREATE INDEX notification_lane_by_age ON notification_lane (updated_at);

-- Calls that are under way, on any instance. One that its instance did not end counts until `ends_at`.
CREATE TABLE notification_call (
    tenant_id   TEXT      NOT NULL,
    delivery_id TEXT      NOT NULL,
    receiver    TEXT      NOT NULL,
    -- Host and port of the receiver.
    host        TEXT      NOT NULL,
    ends_at     TIMESTAMP NOT NULL,
    PRIMARY KEY (tenant_id, delivery_id),
    FOREIGN KEY (tenant_id, delivery_id) REFERENCES notification_delivery (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX notification_call_by_host ON notification_call (tenant_id, host);
