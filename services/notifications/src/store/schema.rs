//! The tables. Private to `store`: nothing else names one.

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    notification (tenant_id, id) {
        tenant_id -> Uuid,
        id -> Uuid,
        category -> Text,
        purpose -> Nullable<Text>,
        cause -> Nullable<Text>,
        template_id -> Nullable<Uuid>,
        template_version -> Nullable<BigInt>,
        priority -> Integer,
        content -> Nullable<Text>,
        sealed -> Nullable<Binary>,
        is_secret -> Bool,
        send_at -> Nullable<Timestamp>,
        expires_at -> Nullable<Timestamp>,
        created_at -> Timestamp,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    notification_delivery (tenant_id, id) {
        tenant_id -> Uuid,
        id -> Uuid,
        notification_id -> Uuid,
        channel -> Text,
        recipient -> Text,
        recipient_key -> Text,
        name -> Nullable<Text>,
        user_id -> Nullable<Uuid>,
        state -> Text,
        reason -> Nullable<Text>,
        answer -> Nullable<Text>,
        attempts -> Integer,
        sending_since -> Nullable<Timestamp>,
        next_attempt_at -> Nullable<Timestamp>,
        unsubscribe_token -> Nullable<Text>,
        updated_at -> Timestamp,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    notification_digest (tenant_id, recipient_key, category, digest_key) {
        tenant_id -> Uuid,
        recipient_key -> Text,
        category -> Text,
        digest_key -> Text,
        delivery_id -> Uuid,
        due_at -> Timestamp,
        size -> Integer,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    notification_digest_member (tenant_id, delivery_id) {
        tenant_id -> Uuid,
        delivery_id -> Uuid,
        first_id -> Uuid,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    notification_attachment (tenant_id, notification_id, number) {
        tenant_id -> Uuid,
        notification_id -> Uuid,
        number -> Integer,
        file_id -> Uuid,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    notification_attempt (tenant_id, delivery_id, number) {
        tenant_id -> Uuid,
        delivery_id -> Uuid,
        number -> Integer,
        record -> Text,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    notification_lane (tenant_id, receiver) {
        tenant_id -> Uuid,
        receiver -> Text,
        narrowed -> Integer,
        failures -> Integer,
        failing_since -> Nullable<Timestamp>,
        held_until -> Nullable<Timestamp>,
        turn_at -> Nullable<Timestamp>,
        updated_at -> Timestamp,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    notification_call (tenant_id, delivery_id) {
        tenant_id -> Uuid,
        delivery_id -> Uuid,
        receiver -> Text,
        host -> Text,
        ends_at -> Timestamp,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    notification_inbox (tenant_id, id) {
        tenant_id -> Uuid,
        id -> Uuid,
        user_id -> Uuid,
        category -> Text,
        title -> Text,
        body -> Text,
        data -> Nullable<Text>,
        created_at -> Timestamp,
        expires_at -> Nullable<Timestamp>,
        read_at -> Nullable<Timestamp>,
        archived_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    notification_preference (tenant_id, user_id, category, channel) {
        tenant_id -> Uuid,
        user_id -> Uuid,
        category -> Text,
        channel -> Text,
        enabled -> Bool,
        updated_at -> Timestamp,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    notification_quiet_hours (tenant_id, user_id) {
        tenant_id -> Uuid,
        user_id -> Uuid,
        zone -> Text,
        begins_at -> Integer,
        ends_at -> Integer,
        updated_at -> Timestamp,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    notification_push_subscription (tenant_id, id) {
        tenant_id -> Uuid,
        id -> Uuid,
        user_id -> Uuid,
        endpoint_key -> Text,
        push_service -> Text,
        subscription_enc -> Binary,
        label -> Nullable<Text>,
        expires_at -> Nullable<Timestamp>,
        created_at -> Timestamp,
        version -> BigInt,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    notification_report (tenant_id, id) {
        tenant_id -> Uuid,
        id -> Text,
        received_at -> Timestamp,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    notification_suppression (tenant_id, id) {
        tenant_id -> Uuid,
        id -> Uuid,
        channel -> Text,
        recipient -> Text,
        recipient_key -> Text,
        category -> Text,
        reason -> Text,
        detail -> Nullable<Text>,
        created_at -> Timestamp,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    notification_template (tenant_id, id) {
        tenant_id -> Uuid,
        id -> Uuid,
        key -> Text,
        description -> Nullable<Text>,
        version -> BigInt,
        created_at -> Timestamp,
        updated_at -> Timestamp,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    notification_template_version (tenant_id, template_id, number) {
        tenant_id -> Uuid,
        template_id -> Uuid,
        number -> BigInt,
        subject -> Nullable<Text>,
        text -> Nullable<Text>,
        html -> Nullable<Text>,
        title -> Nullable<Text>,
        body -> Nullable<Text>,
        created_at -> Timestamp,
    }
}
