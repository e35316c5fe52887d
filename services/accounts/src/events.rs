//! What others learn of accounts: subscribers in the program, and clients by the log of events. Emitted in the
//! transaction of its cause. An event has ids and reasons, and never an address, a name or a secret: it is kept apart from
//! what erasing a user erases.

use dotmac_platform::{
    db::{TenantId, Tx},
    events::{Emit as _, Event, emit_for},
    module::Manifest,
};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    AccountsError,
    store::{
        api_keys::ApiKeyRow,
        bindings::BindingRow,
        sessions::SessionId,
        users::{self, UserId},
    },
};

/// The types of events: `Type = "area.thing.v1", what it is about { its fields }`. The first field is the subject's id.
macro_rules! events {
    ($(
        $(#[doc = $doc:literal])+
        $event:ident = $kind:literal, $subjects:literal {
            $(#[doc = $subject_doc:literal])+ $subject:ident: $id:ty
            $(, $(#[doc = $field_doc:literal])+ $field:ident: $value:ty)* $(,)?
        }
    )+) => {
        $(
            $(#[doc = $doc])+
            #[derive(Clone, Debug, Serialize, ToSchema)]
            pub(crate) struct $event {
                $(#[doc = $subject_doc])+
                pub(crate) $subject: $id,
                $($(#[doc = $field_doc])+ pub(crate) $field: $value,)*
            }

            impl Event for $event {
                const TYPE: &'static str = $kind;

                fn subject(&self) -> String {
                    format!(concat!($subjects, "/{}"), self.$subject)
                }
            }
        )+

        /// Adds all of them to what the module emits.
        pub(crate) fn declare(manifest: Manifest) -> Manifest {
            manifest$(.emits::<$event>())+
        }
    };
}

events! {
    /// A user was made as a member of the tenant.
    UserCreated = "user.created.v1", "users" {
        /// Who.
        user: UserId
    }
    /// The profile of a user was changed.
    UserUpdated = "user.updated.v1", "users" {
        /// Who.
        user: UserId
    }
    /// A user was disabled.
    UserDisabled = "user.disabled.v1", "users" {
        /// Who.
        user: UserId
    }
    /// A user was enabled.
    UserEnabled = "user.enabled.v1", "users" {
        /// Who.
        user: UserId
    }
    /// A user was deleted, in all tenants.
    UserDeleted = "user.deleted.v1", "users" {
        /// Who.
        user: UserId
    }
    /// The membership of a user in the tenant has ended.
    MemberRemoved = "member.removed.v1", "users" {
        /// Who.
        user: UserId
    }
    /// The password of a user was set or changed.
    PasswordChanged = "password.changed.v1", "users" {
        /// Whose.
        user: UserId
    }
    /// A user has a second factor.
    FactorAdded = "factor.added.v1", "users" {
        /// Whose.
        user: UserId,
        /// Its kind: `totp` or `passkey`.
        factor: &'static str
    }
    /// A second factor of a user was taken away.
    FactorRemoved = "factor.removed.v1", "users" {
        /// Whose.
        user: UserId,
        /// Its kind: `totp` or `passkey`.
        factor: &'static str
    }
    /// One or all sessions of a user were ended before their time.
    SessionRevoked = "session.revoked.v1", "users" {
        /// Whose.
        user: UserId,
        /// Which one; absent for all of them, or all but the one that ended the others.
        session: Option<SessionId>,
        /// Why: `logout`, `password_changed`, `user_disabled`, `refresh_reused` and the like.
        reason: &'static str
    }
    /// A user or a service account got a role.
    RoleBindingCreated = "role_binding.created.v1", "role-bindings" {
        /// The binding.
        role_binding: Uuid,
        /// The role.
        role: Uuid,
        /// The user or the service account.
        principal: Uuid
    }
    /// A role was taken from a user or a service account.
    RoleBindingDeleted = "role_binding.deleted.v1", "role-bindings" {
        /// The binding.
        role_binding: Uuid,
        /// The role.
        role: Uuid,
        /// The user or the service account.
        principal: Uuid
    }
    /// A user or a service account got a permission without a role.
    GrantCreated = "grant.created.v1", "grants" {
        /// The grant.
        grant: Uuid,
        /// The permission.
        permission: String,
        /// The user or the service account.
        principal: Uuid
    }
    /// A permission that was given without a role was taken away.
    GrantDeleted = "grant.deleted.v1", "grants" {
        /// The grant.
        grant: Uuid,
        /// The permission.
        permission: String,
        /// The user or the service account.
        principal: Uuid
    }
    /// An API key was made.
    ApiKeyCreated = "api_key.created.v1", "api-keys" {
        /// The key's id, which is no part of its text.
        api_key: Uuid,
        /// The user or the service account whose it is.
        owner: Option<Uuid>
    }
    /// An API key got another secret.
    ApiKeyRotated = "api_key.rotated.v1", "api-keys" {
        /// The key's id.
        api_key: Uuid,
        /// The user or the service account whose it is.
        owner: Option<Uuid>
    }
    /// An API key was revoked.
    ApiKeyRevoked = "api_key.revoked.v1", "api-keys" {
        /// The key's id.
        api_key: Uuid,
        /// The user or the service account whose it is.
        owner: Option<Uuid>
    }
    /// All personal API keys of a user in the tenant were revoked.
    ApiKeysRevoked = "api_keys.revoked.v1", "users" {
        /// Whose.
        user: UserId
    }
}

impl RoleBindingCreated {
    pub(crate) fn of(row: &BindingRow) -> Self {
        Self {
            role_binding: row.id.uuid(),
            role: row.role_id.uuid(),
            principal: row.principal(),
        }
    }
}

impl RoleBindingDeleted {
    pub(crate) fn of(row: &BindingRow) -> Self {
        Self {
            role_binding: row.id.uuid(),
            role: row.role_id.uuid(),
            principal: row.principal(),
        }
    }
}

/// Whose a key is.
pub(crate) fn owner(row: &ApiKeyRow) -> Option<Uuid> {
    row.holder().map(|holder| holder.uuid())
}

/// Emits an event of a tenant on a transaction that is the tenant's or the system's.
pub(crate) fn emit_in<E: Event>(
    tx: &mut Tx,
    tenant: TenantId,
    event: &E,
) -> Result<(), AccountsError> {
    let emitted = match tx.tenant() {
        Some(_) => tx.emit(event),
        None => emit_for(tx, tenant, event),
    };
    emitted.map(drop).map_err(AccountsError::from)
}

/// Emits an event of a user: in the transaction's tenant, and on a transaction of the system in every tenant that the user is a
/// member of.
pub(crate) async fn emit_of_user<E: Event>(
    tx: &mut Tx,
    user: UserId,
    event: &E,
) -> Result<(), AccountsError> {
    if tx.tenant().is_some() {
        tx.emit(event)?;
        return Ok(());
    }
    for tenant in users::tenants(tx, user).await? {
        emit_for(tx, tenant, event)?;
    }
    Ok(())
}
