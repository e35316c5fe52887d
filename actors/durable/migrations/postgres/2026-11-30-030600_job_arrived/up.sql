-- By its condition on `finished_at`, which a claim does not have, it is for nothing but what has become ready.
CREATE INDEX CONCURRENTLY job_arrived ON job (ready_xid) WHERE state = 'ready' AND crashes = 0 AND finished_at IS NULL;
