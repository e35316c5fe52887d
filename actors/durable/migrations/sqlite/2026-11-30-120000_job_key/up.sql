-- The unique key that a job was enqueued with: a retry takes it again, and a job is kept while its key holds.
CREATE TABLE job_key (
    job_id      TEXT      NOT NULL PRIMARY KEY,
    tenant_id   TEXT      NOT NULL,
    key         TEXT      NOT NULL,
    holds_until TIMESTAMP NOT NULL,
    -- Keys are reserved before their job is written, which is last of all.
    FOREIGN KEY (job_id) REFERENCES job (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
);
INSERT INTO job_key (job_id, tenant_id, key, holds_until)
SELECT job_id, tenant_id, key, holds_until FROM job_unique
WHERE EXISTS (SELECT 1 FROM job WHERE job.id = job_unique.job_id) ON CONFLICT DO NOTHING;
