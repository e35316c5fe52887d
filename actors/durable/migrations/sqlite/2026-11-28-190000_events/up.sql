-- The log of events. SQLite has one writer, so the order of row ids is the order of commits.
CREATE TABLE event (
    xid           BIGINT    NOT NULL DEFAULT 0,
    position      INTEGER   NOT NULL PRIMARY KEY AUTOINCREMENT,
    id            TEXT      NOT NULL,
    tenant_id     TEXT,
    type          TEXT      NOT NULL,
    subject       TEXT      NOT NULL,
    partition_key TEXT      NOT NULL,
    data          JSON      NOT NULL,
    actor         TEXT,
    traceparent   TEXT,
    at            TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f000', 'now'))
);
CREATE UNIQUE INDEX event_by_id ON event (id);

-- The last event that retention has taken away; one row.
CREATE TABLE event_retention (
    id       INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    xid      BIGINT  NOT NULL,
    position BIGINT  NOT NULL
);
INSERT INTO event_retention (id, xid, position) VALUES (1, 0, 0);

-- How far each subscriber has come: the last event whose effect is committed.
CREATE TABLE event_subscriber (
    name     TEXT      NOT NULL PRIMARY KEY,
    xid      BIGINT    NOT NULL,
    position BIGINT    NOT NULL,
    moved_at TIMESTAMP NOT NULL
);

-- Events whose effect failed, and those of the same lane that wait behind them.
CREATE TABLE event_held (
    subscriber TEXT      NOT NULL REFERENCES event_subscriber (name) ON DELETE CASCADE,
    xid        BIGINT    NOT NULL,
    position   BIGINT    NOT NULL,
    lane       TEXT      NOT NULL,
    failures   INTEGER   NOT NULL,
    retry_at   TIMESTAMP,
    parked     BOOLEAN   NOT NULL,
    error      TEXT,
    PRIMARY KEY (subscriber, xid, position)
);
CREATE INDEX event_held_by_lane ON event_held (subscriber, lane, xid, position);
