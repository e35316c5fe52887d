//! The tables of the log.

diesel::table! {
    use dotmac_db::types::sql::*;

    event (xid, position) {
        xid -> BigInt,
        position -> BigInt,
        id -> Uuid,
        tenant_id -> Nullable<Uuid>,
        #[sql_name = "type"]
        kind -> Text,
        subject -> Text,
        partition_key -> Text,
        data -> Json,
        actor -> Nullable<Text>,
        traceparent -> Nullable<Text>,
        at -> Timestamp,
    }
}

diesel::table! {
    use dotmac_db::types::sql::*;

    event_retention (id) {
        id -> Integer,
        xid -> BigInt,
        position -> BigInt,
    }
}

diesel::table! {
    use dotmac_db::types::sql::*;

    event_subscriber (name) {
        name -> Text,
        xid -> BigInt,
        position -> BigInt,
        moved_at -> Timestamp,
    }
}

diesel::table! {
    use dotmac_db::types::sql::*;

    event_held (subscriber, xid, position) {
        subscriber -> Text,
        xid -> BigInt,
        position -> BigInt,
        lane -> Text,
        failures -> Integer,
        retry_at -> Nullable<Timestamp>,
        parked -> Bool,
        error -> Nullable<Text>,
    }
}
