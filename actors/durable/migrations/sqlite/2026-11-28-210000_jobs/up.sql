-- Jobs. The row of a job is narrow and changes with its state; what is wide lies in tables of its own, and is written
-- once. `tenant_id` of a job of the system is nil, so that one index serves all.
CREATE TABLE job (
    id           TEXT      NOT NULL PRIMARY KEY,
    tenant_id    TEXT      NOT NULL,
    kind         TEXT      NOT NULL,
    queue        TEXT      NOT NULL,
    state        TEXT      NOT NULL CHECK (state IN
        ('scheduled', 'ready', 'running', 'retrying', 'completed', 'failed', 'cancelled', 'parked')),
    priority     INTEGER   NOT NULL,
    run_at       TIMESTAMP NOT NULL,
    attempt      INTEGER   NOT NULL DEFAULT 0,
    max_attempts INTEGER   NOT NULL,
    crashes      INTEGER   NOT NULL DEFAULT 0,
    lease        BIGINT    NOT NULL DEFAULT 0,
    worker       TEXT,
    cancels      BOOLEAN   NOT NULL DEFAULT false,
    created_at   TIMESTAMP NOT NULL,
    started_at   TIMESTAMP,
    finished_at  TIMESTAMP
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
    job_id      TEXT NOT NULL PRIMARY KEY REFERENCES job (id) ON DELETE CASCADE,
    tenant_id   TEXT NOT NULL,
    args        JSON NOT NULL,
    actor       TEXT,
    traceparent TEXT
);

CREATE TABLE job_result (
    job_id    TEXT NOT NULL PRIMARY KEY REFERENCES job (id) ON DELETE CASCADE,
    tenant_id TEXT NOT NULL,
    result    JSON NOT NULL
);

-- Attempts that did not succeed.
CREATE TABLE job_attempt (
    job_id     TEXT      NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    lease      BIGINT    NOT NULL,
    tenant_id  TEXT      NOT NULL,
    attempt    INTEGER   NOT NULL,
    code       TEXT      NOT NULL,
    message    TEXT      NOT NULL,
    started_at TIMESTAMP,
    ended_at   TIMESTAMP NOT NULL,
    PRIMARY KEY (job_id, lease)
);

CREATE TABLE job_progress (
    job_id    TEXT      NOT NULL PRIMARY KEY REFERENCES job (id) ON DELETE CASCADE,
    tenant_id TEXT      NOT NULL,
    lease     BIGINT    NOT NULL,
    done      BIGINT    NOT NULL,
    total     BIGINT,
    message   TEXT      NOT NULL,
    at        TIMESTAMP NOT NULL
);

-- Which job has a unique key: until it is finished, and at least until `holds_until`.
CREATE TABLE job_unique (
    tenant_id   TEXT NOT NULL,
    kind        TEXT NOT NULL,
    key         TEXT NOT NULL,
    job_id      TEXT NOT NULL,
    holds_until TIMESTAMP NOT NULL,
    PRIMARY KEY (tenant_id, kind, key)
);
CREATE INDEX job_unique_by_end ON job_unique (holds_until);

-- The incarnations that run jobs: one for each life of a process, whatever its host is called.
CREATE TABLE job_worker (
    id         TEXT      NOT NULL PRIMARY KEY,
    pid        INTEGER   NOT NULL,
    started_at TIMESTAMP NOT NULL,
    beat_at    TIMESTAMP NOT NULL
);

-- The queues in which there have been jobs.
CREATE TABLE job_queue (
    name      TEXT NOT NULL PRIMARY KEY,
    paused_at TIMESTAMP
);

-- Kinds with a bound over all instances: who claims jobs of one has its row locked.
CREATE TABLE job_kind (
    kind    TEXT      NOT NULL PRIMARY KEY,
    free_at TIMESTAMP NOT NULL
);
