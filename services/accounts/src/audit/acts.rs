//! The acts that are recorded, and what they are done to.

use dotmac_platform::audit::AuditedAct;

/// An act of this module; the constants below are all that there are.
pub(crate) type Action = AuditedAct;

/// The acts: `NAME = "action", "what was done"`.
macro_rules! acts {
    ($($name:ident = $action:literal, $description:literal;)+) => {
        $(pub(crate) const $name: Action = AuditedAct::new($action, $description);)+

        /// All acts of the module.
        pub(crate) const ACTS: &[AuditedAct] = &[$($name),+];
    };
}

acts! {
    LOGIN_SUCCESS = "authn_login_success", "A user signed in.";
    LOGIN_FAIL = "authn_login_fail", "A password did not let its sender in.";
    LOGIN_LOCK = "authn_login_lock", "Passwords of an identifier, or codes of a user, help no more after too many failures.";
    LOGIN_FIRST_FACTOR = "authn_login_first_factor", "The first factor of a sign-in was right; a second one is to follow.";
    MFA_FAIL = "authn_mfa_fail", "A second factor was wrong.";
    PASSKEY_COPIED = "authn_passkey_copied", "The counter of a passkey did not go up: there may be a copy of it.";
    PASSKEY_BACKUP_CHANGED = "authn_passkey_backup_changed", "The backup state of a passkey changed.";
    STEP_UP = "authn_step_up", "A signed-in user authenticated again.";
    TENANT_SWITCH = "authn_tenant_switch", "A session was replaced by one in another tenant.";
    TOKEN_REUSE = "authn_token_reuse", "A refresh token was used a second time; its session was ended.";
    SESSION_ENDED = "session_ended", "A session was ended.";
    SESSIONS_ENDED = "sessions_ended", "All sessions of a user were ended, or all but one.";

    PASSWORD_CHANGE = "authn_password_change", "A password was set or changed.";
    PASSWORD_CHECK = "authn_password_check", "A signed-in user gave a wrong current password.";
    RESET_LINK_CREATED = "user_reset_link_created", "A link was made by which a user sets a password.";
    LINK_MAILED = "authn_link_mailed", "A link or a code was mailed that signs in, sets a password or proves an address.";
    LINK_FAIL = "authn_link_fail", "The code of a mail was wrong.";
    EMAIL_VERIFIED = "email_verified", "A user verified the address of the account.";
    EMAIL_CHANGED = "email_changed", "The address of an account was replaced.";
    EMAIL_CHANGE_UNDONE = "email_change_undone", "The former address of an account was restored.";
    FACTOR_BEGUN = "authn_factor_begun", "An authenticator app was set up, not active yet.";
    FACTOR_ADDED = "authn_factor_added", "A second factor was activated.";
    FACTOR_REMOVED = "authn_factor_removed", "A second factor was removed.";
    RECOVERY_CODES_RENEWED = "authn_recovery_codes_renewed", "Recovery codes were replaced.";
    RECOVERY_CODES_DELETED = "authn_recovery_codes_deleted", "Recovery codes were deleted by their owner.";

    USER_CREATED = "user_created", "A user was made.";
    USER_UPDATED = "user_updated", "The profile of a user was changed.";
    USER_DISABLED = "user_disabled", "A user was disabled.";
    USER_ENABLED = "user_enabled", "A user was enabled.";
    USER_UNLOCKED = "user_unlocked", "The failed sign-ins of a user were cleared.";
    USER_DELETED = "user_deleted", "A user was deleted.";
    USER_EXPORTED = "user_exported", "What is kept about a user was read as one object.";
    MEMBERSHIP_REMOVED = "membership_removed", "A user was removed from the tenant.";

    ROLE_CREATED = "role_created", "A role was made.";
    ROLE_DELETED = "role_deleted", "A role was deleted.";
    AUTHZ_CHANGE = "authz_change", "A role was changed, given or taken.";
    TENANT_CREATED = "tenant_created", "A tenant was made.";
    TENANT_UPDATED = "tenant_updated", "A tenant was changed.";
    SERVICE_ACCOUNT_CREATED = "service_account_created", "A service account was made.";
    SERVICE_ACCOUNT_UPDATED = "service_account_updated", "A service account was changed.";
    SERVICE_ACCOUNT_DELETED = "service_account_deleted", "A service account was deleted.";

    API_KEY_CREATED = "api_key_created", "An API key was made.";
    API_KEY_ROTATED = "api_key_rotated", "An API key got another secret.";
    API_KEY_REVOKED = "api_key_revoked", "An API key was revoked.";
    API_KEYS_REVOKED = "api_keys_revoked", "All personal API keys of a user in the tenant were revoked.";
    API_KEY_REPORTED = "api_key_reported", "An API key was reported as found.";
    CRYPTO_KEY_CREATED = "crypto_key_created", "A key of the program was created.";
    CRYPTO_KEY_REVOKED = "crypto_key_revoked", "A signing key was revoked.";
}

/// What an act is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    User,
    Session,
    Role,
    RoleBinding,
    Grant,
    Tenant,
    ServiceAccount,
    ApiKey,
    SigningKey,
    RefreshKey,
}

impl Resource {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::User => "accounts.user",
            Self::Session => "accounts.session",
            Self::Role => "accounts.role",
            Self::RoleBinding => "accounts.role_binding",
            Self::Grant => "accounts.grant",
            Self::Tenant => "accounts.tenant",
            Self::ServiceAccount => "accounts.service_account",
            Self::ApiKey => "accounts.api_key",
            Self::SigningKey => "accounts.signing_key",
            Self::RefreshKey => "accounts.refresh_key",
        }
    }
}
