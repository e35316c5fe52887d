//! The tables of schedules.

diesel::table! {
    use dotmac_db::types::sql::*;

    job_schedule (id) {
        id -> Uuid,
        tenant_id -> Uuid,
        name -> Text,
        kind -> Text,
        args -> Json,
        cron -> Nullable<Text>,
        zone -> Text,
        every_seconds -> Nullable<BigInt>,
        missed -> Text,
        grace_seconds -> BigInt,
        anchor_at -> Timestamp,
        next_at -> Nullable<Timestamp>,
        paused_at -> Nullable<Timestamp>,
        version -> BigInt,
        created_at -> Timestamp,
        updated_at -> Timestamp,
    }
}

diesel::table! {
    use dotmac_db::types::sql::*;

    job_occurrence (schedule_id, due_at) {
        schedule_id -> Uuid,
        due_at -> Timestamp,
        tenant_id -> Uuid,
        state -> Text,
        job_id -> Nullable<Uuid>,
        error -> Nullable<Text>,
    }
}
