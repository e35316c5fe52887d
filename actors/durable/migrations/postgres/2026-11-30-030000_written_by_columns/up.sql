-- What a transaction writes last of all, in one message with its commit: a call for each row, with its columns as they are.
-- The functions that take rows as JSON are those of the release before.
CREATE FUNCTION event_add(uuid, uuid, text, text, text, json, text, text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO event (id, tenant_id, type, subject, partition_key, data, actor, traceparent)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8);
END $$;

CREATE FUNCTION audit_add(uuid, uuid, text, text, text, text, text, text, json, uuid, bytea, text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit_entry (id, tenant_id, actor, action, resource_type, resource_id, outcome, reason, details, subject,
        personal, trace_id)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12);
END $$;

CREATE FUNCTION job_queue_add(text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO job_queue (name) VALUES ($1) ON CONFLICT (name) DO NOTHING;
END $$;

CREATE FUNCTION job_add(uuid, uuid, text, text, text, integer, timestamp, integer, timestamp, json, text, text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO job (id, tenant_id, kind, queue, state, priority, run_at, max_attempts, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);
    INSERT INTO job_payload (job_id, tenant_id, args, actor, traceparent) VALUES ($1, $2, $10, $11, $12);
END $$;
