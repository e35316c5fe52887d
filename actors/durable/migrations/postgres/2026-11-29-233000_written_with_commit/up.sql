-- What a transaction writes last of all, in one message with its commit. PL/pgSQL keeps the plans of its statements for the session.
CREATE FUNCTION event_write(given json) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO event (id, tenant_id, type, subject, partition_key, data, actor, traceparent)
    SELECT it.id, it.tenant_id, it.type, it.subject, it.partition_key, it.data::json, it.actor, it.traceparent
    FROM json_to_recordset(given) AS it (
        id uuid, tenant_id uuid, type text, subject text, partition_key text, data text, actor text, traceparent text
    );
END $$;

CREATE FUNCTION audit_write(given json) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit_entry (id, tenant_id, actor, action, resource_type, resource_id, outcome, reason, details, subject,
        personal, trace_id)
    SELECT it.id, it.tenant_id, it.actor, it.action, it.resource_type, it.resource_id, it.outcome, it.reason, it.details,
        it.subject, it.personal, it.trace_id
    FROM json_to_recordset(given) AS it (
        id uuid, tenant_id uuid, actor text, action text, resource_type text, resource_id text, outcome text, reason text,
        details json, subject uuid, personal bytea, trace_id text
    );
END $$;

CREATE FUNCTION job_write(given json) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    WITH it AS MATERIALIZED (
        SELECT * FROM json_to_recordset(given) AS job (
            id uuid, tenant_id uuid, kind text, queue text, state text, priority integer, run_at timestamp, max_attempts integer,
            created_at timestamp, args text, actor text, traceparent text
        )
    ), queued AS (
        INSERT INTO job_queue (name) SELECT DISTINCT it.queue FROM it ORDER BY it.queue ON CONFLICT (name) DO NOTHING
    ), made AS (
        INSERT INTO job (id, tenant_id, kind, queue, state, priority, run_at, max_attempts, created_at)
        SELECT it.id, it.tenant_id, it.kind, it.queue, it.state, it.priority, it.run_at, it.max_attempts, it.created_at FROM it
    )
    INSERT INTO job_payload (job_id, tenant_id, args, actor, traceparent)
    SELECT it.id, it.tenant_id, it.args::json, it.actor, it.traceparent FROM it;
END $$;
