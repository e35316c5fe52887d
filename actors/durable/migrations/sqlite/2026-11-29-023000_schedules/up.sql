-- Schedules of jobs: by a line of cron in a zone, or at an interval. `next_at` is NULL while one is paused or has no next time.
CREATE TABLE job_schedule (
    id            TEXT      NOT NULL PRIMARY KEY,
    tenant_id     TEXT      NOT NULL,
    name          TEXT      NOT NULL,
    kind          TEXT      NOT NULL,
    args          JSON      NOT NULL,
    cron          TEXT,
    zone          TEXT      NOT NULL,
    every_seconds BIGINT,
    missed        TEXT      NOT NULL CHECK (missed IN ('skip', 'run_once', 'run_all')),
    grace_seconds BIGINT    NOT NULL,
    anchor_at     TIMESTAMP NOT NULL,
    next_at       TIMESTAMP,
    paused_at     TIMESTAMP,
    version       BIGINT    NOT NULL DEFAULT 1,
    created_at    TIMESTAMP NOT NULL,
    updated_at    TIMESTAMP NOT NULL,
    UNIQUE (tenant_id, name),
    CHECK ((cron IS NULL) <> (every_seconds IS NULL))
);
CREATE INDEX job_schedule_due ON job_schedule (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX job_schedule_of_tenant ON job_schedule (tenant_id, id);

-- What became of each time at which a schedule was due; its key is what makes of one time one job.
CREATE TABLE job_occurrence (
    schedule_id TEXT      NOT NULL REFERENCES job_schedule (id) ON DELETE CASCADE,
    due_at      TIMESTAMP NOT NULL,
    tenant_id   TEXT      NOT NULL,
    state       TEXT      NOT NULL CHECK (state IN ('enqueued', 'missed', 'refused', 'triggered')),
    job_id      TEXT,
    error       TEXT,
    PRIMARY KEY (schedule_id, due_at)
);
CREATE INDEX job_occurrence_by_time ON job_occurrence (due_at);
