CREATE INDEX job_waiting ON job (tenant_id, kind) WHERE state IN ('scheduled', 'ready', 'retrying');
