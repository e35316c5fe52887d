-- Schedules of jobs: by a line of cron in a zone, or at an interval. `next_at` is NULL while one is paused or has no next time.
CREATE TABLE job_schedule (
    id            uuid      NOT NULL PRIMARY KEY,
    tenant_id     uuid      NOT NULL,
    name          text      NOT NULL,
    kind          text      NOT NULL,
    args          json      NOT NULL,
    cron          text,
    zone          text      NOT NULL,
    every_seconds bigint,
    missed        text      NOT NULL CHECK (missed IN ('skip', 'run_once', 'run_all')),
    grace_seconds bigint    NOT NULL,
    anchor_at     timestamp NOT NULL,
    next_at       timestamp,
    paused_at     timestamp,
    version       bigint    NOT NULL DEFAULT 1,
    created_at    timestamp NOT NULL,
    updated_at    timestamp NOT NULL,
    UNIQUE (tenant_id, name),
    CHECK ((cron IS NULL) <> (every_seconds IS NULL))
);
CREATE INDEX job_schedule_due ON job_schedule (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX job_schedule_of_tenant ON job_schedule (tenant_id, id);

-- What became of each time at which a schedule was due; its key is what makes of one time one job.
CREATE TABLE job_occurrence (
    schedule_id uuid      NOT NULL REFERENCES job_schedule (id) ON DELETE CASCADE,
    due_at      timestamp NOT NULL,
    tenant_id   uuid      NOT NULL,
    state       text      NOT NULL CHECK (state IN ('enqueued', 'missed', 'refused', 'triggered')),
    job_id      uuid,
    error       text,
    PRIMARY KEY (schedule_id, due_at)
);
CREATE INDEX job_occurrence_by_time ON job_occurrence (due_at);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['job_schedule', 'job_occurrence'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON %I '
            'USING (current_setting(''dotmac.tenant_id'', true) IN (tenant_id::text, ''*''))', name);
    END LOOP;
END $$;
