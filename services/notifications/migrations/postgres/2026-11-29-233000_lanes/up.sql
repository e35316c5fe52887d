-- How a URL that is called has done so far.
CREATE TABLE notification_lane (
    tenant_id     uuid      NOT NULL,
    -- The URL.
    receiver      text      NOT NULL,
    narrowed      integer   NOT NULL DEFAULT 0,
    failures      integer   NOT NULL DEFAULT 0,
    failing_since timestamp,
    held_until    timestamp,
    -- When the last of those has its turn that found no room.
    turn_at       timestamp,
    updated_at    timestamp NOT NULL,
    PRIMARY KEY (tenant_id, receiver)
) WITH (fillfactor = 50);
CREATE INDEX notification_lane_by_age ON notification_lane (updated_at);

-- Calls that are under way, on any instance. One that its instance did not end counts until `ends_at`.
CREATE TABLE notification_call (
    tenant_id   uuid      NOT NULL,
    delivery_id uuid      NOT NULL,
    receiver    text      NOT NULL,
    -- Host and port of the receiver.
    host        text      NOT NULL,
    ends_at     timestamp NOT NULL,
    PRIMARY KEY (tenant_id, delivery_id),
    FOREIGN KEY (tenant_id, delivery_id) REFERENCES notification_delivery (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX notification_call_by_host ON notification_call (tenant_id, host);

ALTER TABLE notification_lane ENABLE ROW LEVEL SECURITY;
ALTER TABLE notification_lane FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notification_lane
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
ALTER TABLE notification_call ENABLE ROW LEVEL SECURITY;
ALTER TABLE notification_call FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notification_call
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
