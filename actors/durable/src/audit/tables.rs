//! The tables of the audit log.

diesel::table! {
    use dotmac_db::types::sql::*;

    audit_entry (id) {
        xid -> BigInt,
        position -> BigInt,
        id -> Uuid,
        tenant_id -> Uuid,
        at -> Timestamp,
        actor -> Text,
        action -> Text,
        resource_type -> Text,
        resource_id -> Text,
        outcome -> Text,
        reason -> Nullable<Text>,
        details -> Json,
        subject -> Nullable<Uuid>,
        personal -> Nullable<Binary>,
        trace_id -> Nullable<Text>,
    }
}

diesel::table! {
    use dotmac_db::types::sql::*;

    audit_link (tenant_id, number) {
        tenant_id -> Uuid,
        number -> BigInt,
        entry_id -> Uuid,
        hash -> Binary,
    }
}

diesel::table! {
    use dotmac_db::types::sql::*;

    audit_search (tenant_id, number) {
        tenant_id -> Uuid,
        number -> BigInt,
        actor -> Text,
        action -> Text,
        resource_type -> Text,
        resource_id -> Text,
    }
}

diesel::table! {
    use dotmac_db::types::sql::*;

    audit_chain (tenant_id) {
        tenant_id -> Uuid,
        start -> BigInt,
        number -> BigInt,
        hash -> Binary,
        checked -> BigInt,
        checked_at -> Timestamp,
    }
}

diesel::table! {
    use dotmac_db::types::sql::*;

    audit_checkpoint (tenant_id, number) {
        tenant_id -> Uuid,
        number -> BigInt,
        hash -> Binary,
        previous -> Nullable<Binary>,
        at -> Timestamp,
        key_id -> Nullable<Uuid>,
        signature -> Nullable<Binary>,
    }
}

diesel::table! {
    use dotmac_db::types::sql::*;

    audit_subject (id) {
        id -> Uuid,
        tenant_id -> Uuid,
        subject -> Uuid,
        key -> Binary,
    }
}

diesel::table! {
    use dotmac_db::types::sql::*;

    audit_key (id) {
        id -> Uuid,
        seed -> Binary,
    }
}

diesel::table! {
    use dotmac_db::types::sql::*;

    audit_sealer (id) {
        id -> Integer,
        xid -> BigInt,
        position -> BigInt,
        register -> Nullable<Text>,
    }
}

diesel::table! {
    use dotmac_db::types::sql::*;

    audit_verifier (name) {
        name -> Text,
        place -> Text,
        key_id -> Nullable<Uuid>,
        signature -> Nullable<Text>,
    }
}

diesel::allow_tables_to_appear_in_same_query!(audit_entry, audit_link, audit_search);
diesel::allow_tables_to_appear_in_same_query!(audit_chain, audit_checkpoint);
