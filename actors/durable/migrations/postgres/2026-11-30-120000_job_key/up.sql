-- The unique key that a job was enqueued with: a retry takes it again, and a job is kept while its key holds.
-- locks: writers of jobs wait while keys that hold are copied, so that no job is deleted meanwhile.
CREATE TABLE job_key (
    job_id      uuid      NOT NULL PRIMARY KEY,
    tenant_id   uuid      NOT NULL,
    key         text      NOT NULL,
    holds_until timestamp NOT NULL,
    -- Keys are reserved before their job is written, which is last of all.
    FOREIGN KEY (job_id) REFERENCES job (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
);
-- Row-level security holds for the owner of the tables too.
SELECT set_config('dotmac.tenant_id', '*', true);
INSERT INTO job_key (job_id, tenant_id, key, holds_until)
SELECT job_id, tenant_id, key, holds_until FROM job_unique
WHERE EXISTS (SELECT FROM job WHERE job.id = job_unique.job_id) ON CONFLICT DO NOTHING;
ALTER TABLE job_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE job_key FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON job_key
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'))
    WITH CHECK (tenant_id = '00000000-0000-0000-0000-000000000000'
        OR current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
