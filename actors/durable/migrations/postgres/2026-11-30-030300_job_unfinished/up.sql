-- For counting the jobs of a tenant and kind that wait, and for nothing else: by its condition no claim can use it.
CREATE INDEX CONCURRENTLY job_unfinished ON job (tenant_id, kind) WHERE finished_at IS NULL AND state <> 'running';
