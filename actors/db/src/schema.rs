// @generated automatically by Diesel CLI.

diesel::table! {
    use diesel::sql_types::*;

    runtime_journal (id) {
        id -> Int8,
        instance -> Text,
        component -> Text,
        event -> Text,
        reason -> Nullable<Text>,
        at -> Timestamp,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    lease (name) {
        name -> Text,
        holder -> Text,
        fence -> Int8,
        expires_at -> Timestamp,
        due_at -> Timestamp,
    }
}

diesel::table! {
    use crate::types::sql::*;

    idempotency_key (id) {
        id -> Uuid,
        tenant_id -> Uuid,
        route -> Text,
        key -> Text,
        fingerprint -> Binary,
        fence -> BigInt,
        claimed_until -> Timestamp,
        status -> Nullable<Integer>,
        location -> Nullable<Text>,
        etag -> Nullable<Text>,
        body -> Nullable<Binary>,
        expires_at -> Timestamp,
    }
}
