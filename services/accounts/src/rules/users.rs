//! Users, as administrators of a tenant see and change them.

use dotmac_platform::{
    access::Principal,
    audit::Audited,
    db::{
        AcrossTx, TenantScope, TenantTx,
        types::{Id, Moment},
    },
    events::Emit as _,
};

use super::{
    api_keys,
    held::{self, Terms},
    new_passwords::NewPassword,
    passwords, roles, sessions, sign_in,
    standing::Standing,
};
use crate::{
    AccountsError,
    audit::{
        Act, USER_CREATED, USER_DELETED, USER_DISABLED, USER_ENABLED, USER_UNLOCKED, USER_UPDATED,
    },
    changes::{Change, Changes},
    events::{UserCreated, UserDeleted, UserDisabled, UserEnabled, UserUpdated},
    keys::Keys,
    names::{self, Identifier},
    secret_text::MintedPair,
    service,
    store::{
        ACTIVE, DISABLED,
        bindings::{self, Holder},
        devices, throttle,
        users::{self as store, Hold, ProfileChange, UserId, UserRow},
    },
};

/// A user to be.
#[derive(Clone, Debug, Default)]
pub(crate) struct NewUser {
    pub(crate) email: String,
    pub(crate) username: Option<String>,
    pub(crate) full_name: Option<String>,
}

/// The row of a new user, whose names are checked.
///
/// # Errors
///
/// [`AccountsError::Invalid`].
pub(crate) fn row(
    new: NewUser,
    managed_by: dotmac_platform::db::TenantId,
) -> Result<UserRow, AccountsError> {
    let email_normal = names::email(&new.email).ok_or_else(|| {
        AccountsError::field("email", "email_invalid", "is not an e-mail address")
    })?;
    let username = new.username.map(username).transpose()?;
    let now = Moment::now();
    Ok(UserRow {
        id: Id::new(),
        email: Some(new.email.trim().to_owned()),
        email_normal: Some(email_normal),
        email_verified_at: None,
        username: username.clone(),
        username_normal: username,
        full_name: new.full_name,
        locale: None,
        status: ACTIVE.to_owned(),
        managed_by: Some(managed_by),
        version: 1,
        created_at: now,
        updated_at: now,
        deleted_at: None,
    })
}

fn username(text: String) -> Result<String, AccountsError> {
    names::username(&text).ok_or_else(|| {
        let rule = "is 3 to 32 of a-z, 0-9, `.`, `_` and `-`, begins with a letter or a digit, and is not reserved";
        AccountsError::field("username", "username_invalid", rule)
    })
}

/// Makes a user who is a member of the tenant, with roles, and with a password if there is one.
pub(crate) async fn create(
    tx: &mut TenantTx,
    changes: &Changes,
    who: &Principal,
    row: &UserRow,
    password: Option<NewPassword>,
    role_names: &[String],
) -> Result<Audited<()>, AccountsError> {
    store::insert(tx, row).await?;
    let tenant = tx.tenant();
    store::join(tx, tenant, row.id).await?;
    if let Some(new) = password {
        passwords::set_first(tx, row.id, new, Id::from_uuid(who.id)).await?;
    }
    let terms = Terms {
        holder: Holder::User(row.id),
        expires_at: None,
    };
    for name in role_names {
        let role = roles::named(tx, name).await?;
        held::give_role(tx, changes, who, terms, &role).await?;
    }
    tx.emit(&UserCreated { user: row.id })?;
    Ok(Act::on_user(USER_CREATED, row.id).record(tx)?.of(()))
}

/// A member of the tenant, with the names of its roles.
///
/// # Errors
///
/// [`AccountsError::NotFound`], also for a user of other tenants.
pub(crate) async fn find(
    tx: &mut TenantTx,
    id: UserId,
) -> Result<(UserRow, Vec<String>), AccountsError> {
    let row = store::find_member(tx, id)
        .await?
        .ok_or(AccountsError::NotFound)?;
    let roles = bindings::role_names(tx, Holder::User(id)).await?;
    Ok((row, roles))
}

/// A member whose account this tenant manages: only its administrators change it.
async fn managed(tx: &mut TenantTx, who: &Principal, id: UserId) -> Result<UserRow, AccountsError> {
    let tenant = tx.tenant();
    let row = store::find_member(tx, id)
        .await?
        .ok_or(AccountsError::NotFound)?;
    if row.managed_by != Some(tenant) {
        return Err(AccountsError::Forbidden(
            "another tenant manages this account",
        ));
    }
    // An administrator must not take over or stop a user with more permissions.
    roles::covers_holder(tx, who, Holder::User(id)).await?;
    Ok(row)
}

/// Changes the profile of a user, in the version that the client has seen.
pub(crate) async fn update(
    tx: &mut TenantTx,
    who: &Principal,
    seen: &UserRow,
    mut change: ProfileChange,
) -> Result<Audited<()>, AccountsError> {
    managed(tx, who, seen.id).await?;
    if let Some(name) = change.username.take() {
        let name = name.map(username).transpose()?;
        change.username = Some(name.clone());
        change.username_normal = Some(name);
    }
    change_profile(tx, seen, change).await
}

/// Changes what a user may change of their own profile, in the version that the client has seen.
pub(crate) async fn update_own(
    tx: &mut TenantTx,
    seen: &UserRow,
    change: ProfileChange,
) -> Result<Audited<()>, AccountsError> {
    change_profile(tx, seen, change).await
}

async fn change_profile(
    tx: &mut TenantTx,
    seen: &UserRow,
    change: ProfileChange,
) -> Result<Audited<()>, AccountsError> {
    let id = seen.id;
    service::changed(store::change_profile(tx, seen, change).await?)?;
    tx.emit(&UserUpdated { user: id })?;
    Ok(Act::on_user(USER_UPDATED, id).record(tx)?.of(()))
}

/// Disables the user, ends all sessions and revokes all personal keys, those in other tenants among them.
pub(crate) async fn disable(
    tx: &mut AcrossTx<'_>,
    changes: &Changes,
    who: &Principal,
    id: UserId,
) -> Result<Audited<()>, AccountsError> {
    not_self(who, id)?;
    subordinate(tx, who, id).await?;
    keeps_owners_without(tx, id).await?;
    let own = tx.tenant(&who.scope()).await?;
    store::set_status(own, id, DISABLED).await?;
    let recorded = Act::on_user(USER_DISABLED, id).record(own)?;
    own.emit(&UserDisabled { user: id })?;
    // Else they would be valid again once the user is enabled.
    api_keys::revoke_personal(tx.system().await?, changes, id).await?;
    end_sessions(tx, changes, id, "user_disabled").await?;
    Ok(recorded.of(()))
}

/// Ends all sessions of the user. Those in other tenants are the system's to end: row-level security hides them from a tenant.
async fn end_sessions(
    tx: &mut AcrossTx<'_>,
    changes: &Changes,
    id: UserId,
    reason: &'static str,
) -> Result<Audited<usize>, AccountsError> {
    sessions::end_all(tx.system().await?, changes, id, None, reason).await
}

/// Whether every tenant that the user is a member of keeps an owner without them.
async fn keeps_owners_without(tx: &mut AcrossTx<'_>, id: UserId) -> Result<(), AccountsError> {
    for tenant in store::tenants(tx.system().await?, id).await? {
        let scope = TenantScope::system(tenant, "keep an owner of each tenant");
        roles::keeps_owner_without(tx.tenant(&scope).await?, id, None).await?;
    }
    Ok(())
}

/// A user that the caller may stop, let in again or become: a member whose account the caller's tenant manages, with no
/// permission in any tenant that the caller lacks. It is held until the end of the transaction, so that it gets no role
/// meanwhile.
///
/// # Errors
///
/// [`AccountsError::NotFound`], [`AccountsError::Forbidden`].
async fn subordinate(
    tx: &mut AcrossTx<'_>,
    who: &Principal,
    id: UserId,
) -> Result<UserRow, AccountsError> {
    store::hold(tx.system().await?, id, Hold::Alone).await?;
    let row = managed(tx.tenant(&who.scope()).await?, who, id).await?;
    if Standing::of(who)
        .covers_user(tx.system().await?, id)
        .await?
    {
        Ok(row)
    } else {
        Err(AccountsError::Forbidden(
            "the user has permissions in another tenant",
        ))
    }
}

/// Enables the user.
pub(crate) async fn enable(
    tx: &mut AcrossTx<'_>,
    changes: &Changes,
    who: &Principal,
    id: UserId,
) -> Result<Audited<()>, AccountsError> {
    subordinate(tx, who, id).await?;
    let tx = tx.tenant(&who.scope()).await?;
    store::set_status(tx, id, ACTIVE).await?;
    changes.record(tx, Change::User(id)).await?;
    tx.emit(&UserEnabled { user: id })?;
    Ok(Act::on_user(USER_ENABLED, id).record(tx)?.of(()))
}

/// Deletes the user, in the version that the client has seen: the account is gone in all tenants, with all that lets its owner in.
/// Its name and address stay taken until it is erased: else whoever gets them next would get mails that are meant for the former one.
pub(crate) async fn delete(
    tx: &mut AcrossTx<'_>,
    changes: &Changes,
    who: &Principal,
    seen: &UserRow,
) -> Result<Audited<()>, AccountsError> {
    let id = seen.id;
    not_self(who, id)?;
    subordinate(tx, who, id).await?;
    keeps_owners_without(tx, id).await?;
    let own = tx.tenant(&who.scope()).await?;
    service::changed(store::set_deleted(own, seen).await?)?;
    store::delete_credentials(own, id).await?;
    let recorded = Act::on_user(USER_DELETED, id).record(own)?;
    own.emit(&UserDeleted { user: id })?;
    end_sessions(tx, changes, id, "user_deleted").await?;
    Ok(recorded.of(()))
}

/// Ends all sessions of a member, those in other tenants among them.
pub(crate) async fn sign_out(
    tx: &mut AcrossTx<'_>,
    changes: &Changes,
    who: &Principal,
    id: UserId,
) -> Result<Audited<()>, AccountsError> {
    subordinate(tx, who, id).await?;
    let ended = end_sessions(tx, changes, id, "ended_by_administrator").await?;
    Ok(ended.map(drop))
}

/// Forgets the failed sign-ins of a member.
pub(crate) async fn unlock(
    tx: &mut AcrossTx<'_>,
    keys: &Keys,
    who: &Principal,
    id: UserId,
) -> Result<Audited<()>, AccountsError> {
    let row = subordinate(tx, who, id).await?;
    let tx = tx.tenant(&who.scope()).await?;
    forget_failures(tx, keys, &row).await?;
    Ok(Act::on_user(USER_UNLOCKED, id).record(tx)?.of(()))
}

/// Forgets the failed passwords of sign-ins by either name, from unknown devices and from those that are known. Not those of second
/// factors: a client that sets a password by a link would get more tries.
pub(crate) async fn forget_failures(
    tx: &mut dotmac_platform::db::Tx,
    keys: &Keys,
    row: &UserRow,
) -> Result<(), AccountsError> {
    let email = row.email_normal.clone().map(Identifier::Email);
    let name = row.username_normal.clone().map(Identifier::Username);
    let scopes = devices::of_user(tx, row.id).await?;
    let scopes = scopes
        .into_iter()
        .map(sign_in::scope_of)
        .collect::<Vec<_>>();
    for identifier in [email, name].into_iter().flatten() {
        for scope in scopes.iter().map(String::as_str).chain([sign_in::SCOPE]) {
            throttle::delete(tx, keys.throttle_key(scope, identifier.text())?).await?;
        }
    }
    Ok(())
}

/// A link by which a member can set a password. A caller cannot make one for itself: it would set a password without the present
/// one.
pub(crate) async fn reset_link(
    tx: &mut AcrossTx<'_>,
    who: &Principal,
    id: UserId,
) -> Result<Audited<(MintedPair, Moment)>, AccountsError> {
    not_self(who, id)?;
    let row = subordinate(tx, who, id).await?;
    let maker = Id::from_uuid(who.id);
    let lasting = Standing::lasting(tx.system().await?, who.tenant, maker, None).await?;
    if !lasting.covers_user(tx.system().await?, id).await? {
        return Err(AccountsError::Forbidden(
            "your own role ends, and a link sets a password that lasts; ask an administrator whose role does not end",
        ));
    }
    let made_by = Some(maker);
    passwords::reset_link(tx.tenant(&who.scope()).await?, &row, made_by).await
}

fn not_self(who: &Principal, id: UserId) -> Result<(), AccountsError> {
    if who.id == id.uuid() {
        return Err(AccountsError::Forbidden(
            "callers cannot do this to themselves",
        ));
    }
    Ok(())
}
