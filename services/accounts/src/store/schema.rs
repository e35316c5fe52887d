//! The tables. Private to `store`: nothing else names one.

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    tenants (id) {
        id -> Uuid,
        slug -> Text,
        name -> Text,
        status -> Text,
        version -> BigInt,
        created_at -> Timestamp,
        mfa_required -> Bool,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    users (id) {
        id -> Uuid,
        email -> Nullable<Text>,
        email_normal -> Nullable<Text>,
        email_verified_at -> Nullable<Timestamp>,
        username -> Nullable<Text>,
        username_normal -> Nullable<Text>,
        full_name -> Nullable<Text>,
        locale -> Nullable<Text>,
        status -> Text,
        managed_by -> Nullable<Uuid>,
        version -> BigInt,
        created_at -> Timestamp,
        updated_at -> Timestamp,
        deleted_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    passwords (user_id) {
        user_id -> Uuid,
        phc -> Text,
        changed_at -> Timestamp,
        set_by -> Nullable<Uuid>,
        is_short -> Bool,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    memberships (tenant_id, user_id) {
        tenant_id -> Uuid,
        user_id -> Uuid,
        status -> Text,
        joined_at -> Timestamp,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    roles (id) {
        id -> Uuid,
        tenant_id -> Uuid,
        name -> Text,
        description -> Text,
        is_system -> Bool,
        version -> BigInt,
        created_at -> Timestamp,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    role_permissions (tenant_id, role_id, permission, effect) {
        tenant_id -> Uuid,
        role_id -> Uuid,
        permission -> Text,
        effect -> Text,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    service_accounts (id) {
        id -> Uuid,
        tenant_id -> Uuid,
        name -> Text,
        status -> Text,
        version -> BigInt,
        created_at -> Timestamp,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    role_bindings (id) {
        id -> Uuid,
        tenant_id -> Uuid,
        user_id -> Nullable<Uuid>,
        service_account_id -> Nullable<Uuid>,
        role_id -> Uuid,
        granted_by -> Text,
        created_at -> Timestamp,
        expires_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    api_keys (id) {
        id -> Uuid,
        public_id -> Text,
        tenant_id -> Uuid,
        user_id -> Nullable<Uuid>,
        service_account_id -> Nullable<Uuid>,
        name -> Text,
        hash -> Binary,
        next_hash -> Nullable<Binary>,
        hash_until -> Nullable<Timestamp>,
        rules -> Json,
        version -> BigInt,
        created_at -> Timestamp,
        expires_at -> Nullable<Timestamp>,
        last_used_at -> Nullable<Timestamp>,
        next_last_used_at -> Nullable<Timestamp>,
        revoked_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    sessions (id) {
        id -> Uuid,
        tenant_id -> Uuid,
        user_id -> Uuid,
        kind -> Text,
        token_hash -> Nullable<Binary>,
        acr -> Integer,
        amr -> Text,
        auth_time -> Timestamp,
        client -> Json,
        created_at -> Timestamp,
        last_seen_at -> Timestamp,
        idle_until -> Timestamp,
        expires_at -> Timestamp,
        ended_at -> Nullable<Timestamp>,
        end_reason -> Nullable<Text>,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    session_refresh (session_id) {
        session_id -> Uuid,
        tenant_id -> Uuid,
        salt -> Binary,
        generation -> BigInt,
        confirmed_gen -> BigInt,
        rotated_at -> Timestamp,
        lost_replays -> Integer,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    devices (id) {
        id -> Uuid,
        user_id -> Uuid,
        secret_hash -> Binary,
        first_seen -> Timestamp,
        last_seen -> Timestamp,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    one_time_tokens (id) {
        id -> Uuid,
        public_id -> Text,
        user_id -> Uuid,
        purpose -> Text,
        hash -> Binary,
        bound_to -> Text,
        created_at -> Timestamp,
        expires_at -> Timestamp,
        used_at -> Nullable<Timestamp>,
        made_by -> Nullable<Uuid>,
        browser -> Nullable<Binary>,
        code_hmac -> Nullable<Binary>,
        tries -> Integer,
        address -> Nullable<Text>,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    grants (id) {
        id -> Uuid,
        tenant_id -> Uuid,
        user_id -> Nullable<Uuid>,
        service_account_id -> Nullable<Uuid>,
        permission -> Text,
        granted_by -> Text,
        created_at -> Timestamp,
        expires_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    registrations (id) {
        id -> Uuid,
        email -> Text,
        email_normal -> Text,
        username -> Nullable<Text>,
        full_name -> Nullable<Text>,
        phc -> Nullable<Text>,
        browser -> Binary,
        public_id -> Nullable<Text>,
        hash -> Nullable<Binary>,
        code_hmac -> Nullable<Binary>,
        tries -> Integer,
        link_until -> Timestamp,
        created_at -> Timestamp,
        expires_at -> Timestamp,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    login_throttle (key_hmac) {
        key_hmac -> Binary,
        failures -> Integer,
        window_start -> Timestamp,
        until -> Timestamp,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    signing_keys (id) {
        id -> Uuid,
        kid -> Text,
        alg -> Text,
        public_jwk -> Json,
        private_enc -> Binary,
        in_vault -> Bool,
        created_at -> Timestamp,
        activate_at -> Timestamp,
        retire_at -> Nullable<Timestamp>,
        revoked_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    secret_keys (id) {
        id -> Uuid,
        number -> Integer,
        secret_enc -> Binary,
        created_at -> Timestamp,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    accounts_changes (seq) {
        seq -> BigInt,
        kind -> Text,
        subject -> Uuid,
        at -> Timestamp,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    totp_factors (id) {
        id -> Uuid,
        user_id -> Uuid,
        label -> Nullable<Text>,
        secret_enc -> Binary,
        last_step -> BigInt,
        created_at -> Timestamp,
        confirmed_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    recovery_codes (user_id, number) {
        user_id -> Uuid,
        number -> Integer,
        phc -> Text,
        used_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    sign_in_flows (id) {
        id -> Uuid,
        public_id -> Text,
        user_id -> Uuid,
        hash -> Binary,
        data -> Json,
        tries -> Integer,
        expires_at -> Timestamp,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    passkeys (id) {
        id -> Uuid,
        user_id -> Uuid,
        user_handle -> Binary,
        credential_id -> Binary,
        data -> Binary,
        transports -> Integer,
        aaguid -> Text,
        label -> Nullable<Text>,
        discoverable -> Nullable<Bool>,
        backup_eligible -> Bool,
        backup_state -> Bool,
        sign_count -> BigInt,
        created_at -> Timestamp,
        last_used_at -> Nullable<Timestamp>,
        vouched_by -> Nullable<Uuid>,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    passkey_ceremonies (id) {
        id -> Uuid,
        public_id -> Text,
        hash -> Binary,
        purpose -> Text,
        user_id -> Nullable<Uuid>,
        session_id -> Nullable<Uuid>,
        browser -> Nullable<Binary>,
        state -> Binary,
        expires_at -> Timestamp,
    }
}

diesel::allow_tables_to_appear_in_same_query!(
    users,
    passwords,
    memberships,
    tenants,
    sessions,
    session_refresh,
    role_bindings,
    role_permissions,
    roles,
    service_accounts,
    api_keys,
    devices,
);
