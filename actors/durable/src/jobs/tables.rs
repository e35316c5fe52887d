//! The tables of the queue.

diesel::table! {
    use dotmac_db::types::sql::*;

    // And `ready_xid`, which statements in SQL set.
    job (id) {
        id -> Uuid,
        tenant_id -> Uuid,
        kind -> Text,
        queue -> Text,
        state -> Text,
        priority -> Integer,
        run_at -> Timestamp,
        attempt -> Integer,
        max_attempts -> Integer,
        crashes -> Integer,
        lease -> BigInt,
        worker -> Nullable<Uuid>,
        cancels -> Bool,
        created_at -> Timestamp,
        started_at -> Nullable<Timestamp>,
        finished_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    use dotmac_db::types::sql::*;

    job_payload (job_id) {
        job_id -> Uuid,
        tenant_id -> Uuid,
        args -> Json,
        actor -> Nullable<Text>,
        traceparent -> Nullable<Text>,
    }
}

diesel::table! {
    use dotmac_db::types::sql::*;

    job_result (job_id) {
        job_id -> Uuid,
        tenant_id -> Uuid,
        result -> Json,
    }
}

diesel::table! {
    use dotmac_db::types::sql::*;

    job_attempt (job_id, lease) {
        job_id -> Uuid,
        lease -> BigInt,
        tenant_id -> Uuid,
        attempt -> Integer,
        code -> Text,
        message -> Text,
        started_at -> Nullable<Timestamp>,
        ended_at -> Timestamp,
    }
}

diesel::table! {
    use dotmac_db::types::sql::*;

    job_progress (job_id) {
        job_id -> Uuid,
        tenant_id -> Uuid,
        lease -> BigInt,
        done -> BigInt,
        total -> Nullable<BigInt>,
        message -> Text,
        at -> Timestamp,
    }
}

diesel::table! {
    use dotmac_db::types::sql::*;

    job_unique (tenant_id, kind, key) {
        tenant_id -> Uuid,
        kind -> Text,
        key -> Text,
        job_id -> Uuid,
        holds_until -> Timestamp,
    }
}

diesel::table! {
    use dotmac_db::types::sql::*;

    job_key (job_id) {
        job_id -> Uuid,
        tenant_id -> Uuid,
        key -> Text,
        holds_until -> Timestamp,
    }
}

diesel::table! {
    use dotmac_db::types::sql::*;

    job_worker (id) {
        id -> Uuid,
        pid -> Integer,
        started_at -> Timestamp,
        beat_at -> Timestamp,
    }
}

diesel::table! {
    use dotmac_db::types::sql::*;

    job_queue (name) {
        name -> Text,
        paused_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    use dotmac_db::types::sql::*;

    job_kind (kind) {
        kind -> Text,
        free_at -> Timestamp,
    }
}

diesel::allow_tables_to_appear_in_same_query!(
    job,
    job_payload,
    job_result,
    job_attempt,
    job_progress,
    job_key
);
