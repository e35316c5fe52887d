-- The log of events. Its order is (xid, position): a sequence alone is handed out before transactions commit,
-- so by it a reader would pass events that come late. Partitions are dropped as a whole when they are old.
CREATE SEQUENCE event_position;
CREATE TABLE event (
    xid           bigint    NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),
    position      bigint    NOT NULL DEFAULT nextval('event_position'),
    id            uuid      NOT NULL,
    tenant_id     uuid,
    type          text      NOT NULL,
    subject       text      NOT NULL,
    partition_key text      NOT NULL,
    data          json      NOT NULL,
    actor         text,
    traceparent   text,
    at            timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
) PARTITION BY RANGE (at);
CREATE INDEX event_in_order ON event (xid, position);
CREATE INDEX event_by_id ON event (id);

-- Takes what no other partition does, so that no write depends on the worker that makes them.
CREATE TABLE event_default PARTITION OF event DEFAULT;
DO $$
DECLARE
    today date := (now() AT TIME ZONE 'UTC')::date;
BEGIN
    FOR day IN 0..1 LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF event FOR VALUES FROM (%L) TO (%L)',
            'event_' || to_char(today + day, 'YYYYMMDD'), today + day, today + day + 1);
    END LOOP;
END $$;

ALTER TABLE event ENABLE ROW LEVEL SECURITY;
ALTER TABLE event FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON event
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'))
    WITH CHECK (tenant_id IS NULL OR current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));

-- The last event that retention has taken away; one row.
CREATE TABLE event_retention (
    id       integer   NOT NULL PRIMARY KEY CHECK (id = 1),
    xid      bigint    NOT NULL,
    position bigint    NOT NULL
);
INSERT INTO event_retention (id, xid, position) VALUES (1, 0, 0);

-- How far each subscriber has come: the last event whose effect is committed.
CREATE TABLE event_subscriber (
    name     text      NOT NULL PRIMARY KEY,
    xid      bigint    NOT NULL,
    position bigint    NOT NULL,
    moved_at timestamp NOT NULL
);

-- Events whose effect failed, and those of the same lane that wait behind them.
CREATE TABLE event_held (
    subscriber text      NOT NULL REFERENCES event_subscriber (name) ON DELETE CASCADE,
    xid        bigint    NOT NULL,
    position   bigint    NOT NULL,
    lane       text      NOT NULL,
    failures   integer   NOT NULL,
    retry_at   timestamp,
    parked     boolean   NOT NULL,
    error      text,
    PRIMARY KEY (subscriber, xid, position)
);
CREATE INDEX event_held_by_lane ON event_held (subscriber, lane, xid, position);
