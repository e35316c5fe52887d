-- Jobs. The row of a job is narrow and changes with its state; what is wide lies in tables of its own, and is written
-- once. `tenant_id` of a job of the system is nil, so that one index serves all.
CREATE TABLE job (
    id           uuid      NOT NULL PRIMARY KEY,
    tenant_id    uuid      NOT NULL,
    kind         text      NOT NULL,
    queue        text      NOT NULL,
    state        text      NOT NULL CHECK (state IN
        ('scheduled', 'ready', 'running', 'retrying', 'completed', 'failed', 'cancelled', 'parked')),
    priority     integer   NOT NULL,
    run_at       timestamp NOT NULL,
    attempt      integer   NOT NULL DEFAULT 0,
    max_attempts integer   NOT NULL,
    crashes      integer   NOT NULL DEFAULT 0,
    lease        bigint    NOT NULL DEFAULT 0,
    worker       uuid,
    cancels      boolean   NOT NULL DEFAULT false,
    created_at   timestamp NOT NULL,
    started_at   timestamp,
    finished_at  timestamp
);
CREATE INDEX job_ready ON job (queue, kind, tenant_id, priority, run_at, id) WHERE state = 'ready' AND crashes = 0;
CREATE INDEX job_suspect ON job (run_at, id) WHERE state = 'ready' AND crashes > 0;
CREATE INDEX job_due ON job (run_at) WHERE state IN ('scheduled', 'retrying');
CREATE INDEX job_waiting ON job (tenant_id, kind) WHERE state IN ('scheduled', 'ready', 'retrying');
CREATE INDEX job_dead ON job (tenant_id, kind) WHERE state IN ('failed', 'parked');
CREATE INDEX job_running ON job (worker) WHERE state = 'running';
CREATE INDEX job_finished ON job (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX job_of_tenant ON job (tenant_id, id);

CREATE TABLE job_payload (
    job_id      uuid NOT NULL PRIMARY KEY REFERENCES job (id) ON DELETE CASCADE,
    tenant_id   uuid NOT NULL,
    args        json NOT NULL,
    actor       text,
    traceparent text
);

CREATE TABLE job_result (
    job_id    uuid NOT NULL PRIMARY KEY REFERENCES job (id) ON DELETE CASCADE,
    tenant_id uuid NOT NULL,
    result    json NOT NULL
);

-- Attempts that did not succeed.
CREATE TABLE job_attempt (
    job_id     uuid      NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    lease      bigint    NOT NULL,
    tenant_id  uuid      NOT NULL,
    attempt    integer   NOT NULL,
    code       text      NOT NULL,
    message    text      NOT NULL,
    started_at timestamp,
    ended_at   timestamp NOT NULL,
    PRIMARY KEY (job_id, lease)
);

CREATE TABLE job_progress (
    job_id    uuid      NOT NULL PRIMARY KEY REFERENCES job (id) ON DELETE CASCADE,
    tenant_id uuid      NOT NULL,
    lease     bigint    NOT NULL,
    done      bigint    NOT NULL,
    total     bigint,
    message   text      NOT NULL,
    at        timestamp NOT NULL
);

-- Which job has a unique key: until it is finished, and at least until `holds_until`.
CREATE TABLE job_unique (
    tenant_id   uuid NOT NULL,
    kind        text NOT NULL,
    key         text NOT NULL,
    job_id      uuid NOT NULL,
    holds_until timestamp NOT NULL,
    PRIMARY KEY (tenant_id, kind, key)
);
CREATE INDEX job_unique_by_end ON job_unique (holds_until);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['job', 'job_payload', 'job_result', 'job_attempt', 'job_progress', 'job_unique'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON %I '
            'USING (current_setting(''dotmac.tenant_id'', true) IN (tenant_id::text, ''*'')) '
            'WITH CHECK (tenant_id = ''00000000-0000-0000-0000-000000000000'' '
            'OR current_setting(''dotmac.tenant_id'', true) IN (tenant_id::text, ''*''))', name);
    END LOOP;
END $$;

-- The incarnations that run jobs: one for each life of a process, whatever its host is called.
CREATE TABLE job_worker (
    id         uuid      NOT NULL PRIMARY KEY,
    pid        integer   NOT NULL,
    started_at timestamp NOT NULL,
    beat_at    timestamp NOT NULL
);

-- The queues in which there have been jobs.
CREATE TABLE job_queue (
    name      text NOT NULL PRIMARY KEY,
    paused_at timestamp
);

-- Kinds with a bound over all instances: who claims jobs of one has its row locked.
CREATE TABLE job_kind (
    kind    text      NOT NULL PRIMARY KEY,
    free_at timestamp NOT NULL
);
