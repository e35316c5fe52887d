DROP FUNCTION job_add(uuid, uuid, text, text, text, integer, timestamp, integer, timestamp, json, text, text);
DROP FUNCTION job_queue_add(text);
DROP FUNCTION audit_add(uuid, uuid, text, text, text, text, text, text, json, uuid, bytea, text);
DROP FUNCTION event_add(uuid, uuid, text, text, text, json, text, text);
