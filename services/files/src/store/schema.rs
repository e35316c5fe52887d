//! The tables. Private to `store`: nothing else names one.

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    file (tenant_id, id) {
        tenant_id -> Uuid,
        id -> Uuid,
        blob_id -> Uuid,
        name -> Text,
        name_folded -> Text,
        folder -> Text,
        size -> BigInt,
        sha256 -> Text,
        media_type -> Text,
        state -> Text,
        details -> Json,
        owner_id -> Uuid,
        version -> BigInt,
        created_at -> Timestamp,
        updated_at -> Timestamp,
        deleted_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    file_blob (tenant_id, id) {
        tenant_id -> Uuid,
        id -> Uuid,
        owner_id -> Uuid,
        state -> Text,
        size -> BigInt,
        refs -> BigInt,
        reserved -> BigInt,
        lease_until -> Timestamp,
        created_at -> Timestamp,
        upload_id -> Nullable<Uuid>,
        start_at -> Nullable<BigInt>,
        url_until -> Nullable<Timestamp>,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    file_usage (tenant_id, owner_id) {
        tenant_id -> Uuid,
        owner_id -> Uuid,
        used -> BigInt,
        reserved -> BigInt,
        files -> BigInt,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    file_rendition (tenant_id, id) {
        tenant_id -> Uuid,
        id -> Uuid,
        source_id -> Uuid,
        name -> Text,
        state -> Text,
        blob_id -> Nullable<Uuid>,
        size -> BigInt,
        sha256 -> Text,
        fault -> Nullable<Text>,
        created_at -> Timestamp,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    file_link (tenant_id, id) {
        tenant_id -> Uuid,
        id -> Uuid,
        file_id -> Uuid,
        token_hash -> Text,
        created_by -> Uuid,
        expires_at -> Timestamp,
        max_downloads -> Nullable<BigInt>,
        downloads -> BigInt,
        downloaded_at -> Nullable<Timestamp>,
        revoked_at -> Nullable<Timestamp>,
        created_at -> Timestamp,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    file_upload (tenant_id, id) {
        tenant_id -> Uuid,
        id -> Uuid,
        owner_id -> Uuid,
        length -> BigInt,
        received -> BigInt,
        fence -> BigInt,
        name -> Text,
        folder -> Text,
        metadata -> Json,
        type_declared -> Nullable<Text>,
        expires_at -> Timestamp,
        touched_at -> Timestamp,
        sha256 -> Nullable<Text>,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    file_version (tenant_id, file_id, number) {
        tenant_id -> Uuid,
        file_id -> Uuid,
        number -> BigInt,
        blob_id -> Uuid,
        size -> BigInt,
        sha256 -> Text,
        media_type -> Text,
        type_declared -> Nullable<Text>,
        created_by -> Uuid,
        created_at -> Timestamp,
    }
}

diesel::allow_tables_to_appear_in_same_query!(file, file_version);
