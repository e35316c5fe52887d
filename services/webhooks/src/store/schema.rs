//! The tables. Private to `store`: nothing else names one.

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    webhook_endpoint (tenant_id, id) {
        tenant_id -> Uuid,
        id -> Uuid,
        url -> Text,
        description -> Text,
        events -> Json,
        header_names -> Json,
        headers_enc -> Nullable<Binary>,
        signing -> Text,
        state -> Text,
        state_reason -> Nullable<Text>,
        version -> BigInt,
        created_at -> Timestamp,
        updated_at -> Timestamp,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    webhook_lane (endpoint_id) {
        tenant_id -> Uuid,
        endpoint_id -> Uuid,
        narrowed -> Integer,
        failures -> Integer,
        failing_since -> Nullable<Timestamp>,
        held_until -> Nullable<Timestamp>,
        last_success_at -> Nullable<Timestamp>,
        last_failure_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    webhook_secret (tenant_id, id) {
        tenant_id -> Uuid,
        id -> Uuid,
        endpoint_id -> Uuid,
        secret_enc -> Binary,
        public_key -> Nullable<Text>,
        created_at -> Timestamp,
        expires_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    webhook_message (tenant_id, id) {
        tenant_id -> Uuid,
        id -> Uuid,
        kind -> Text,
        payload -> Text,
        traceparent -> Nullable<Text>,
        created_at -> Timestamp,
    }
}

// What belongs to a lease (`lease`, `worker`, `leased_until`, `started_at`) is in statements of `claims` and `leases` alone.
diesel::table! {
    use dotmac_platform::db::types::sql::*;

    webhook_delivery (tenant_id, id) {
        tenant_id -> Uuid,
        id -> Uuid,
        endpoint_id -> Uuid,
        message_id -> Uuid,
        kind -> Text,
        state -> Text,
        due_at -> Timestamp,
        attempts -> Integer,
        tries -> Integer,
        interruptions -> Integer,
        created_at -> Timestamp,
        finished_at -> Nullable<Timestamp>,
        last_status -> Nullable<Integer>,
        last_error -> Nullable<Text>,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    webhook_attempt (tenant_id, delivery_id, number) {
        tenant_id -> Uuid,
        delivery_id -> Uuid,
        number -> Integer,
        endpoint_id -> Uuid,
        at -> Timestamp,
        duration_ms -> BigInt,
        status -> Nullable<Integer>,
        address -> Nullable<Text>,
        response_headers -> Json,
        response_body -> Nullable<Text>,
        error -> Nullable<Text>,
    }
}

diesel::allow_tables_to_appear_in_same_query!(webhook_endpoint, webhook_lane);
