DROP FUNCTION job_write(json);
DROP FUNCTION audit_write(json);
DROP FUNCTION event_write(json);
