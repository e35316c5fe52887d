//! Who has which role. Nobody gives what they lack, changes their own roles, or takes the last owner away.

use dotmac_platform::{
    access::Principal,
    audit::Audited,
    db::{
        TenantTx,
        types::{Id, Moment},
    },
    events::Emit as _,
};

use super::{
    holders::{self, powers},
    roles,
};
use crate::{
    AccountsError,
    audit::{AUTHZ_CHANGE, Act, Resource},
    changes::{Change, Changes},
    events::{RoleBindingCreated, RoleBindingDeleted},
    service::{self, permissions},
    store::{
        bindings::{self as store, BindingId, BindingRow, Holder},
        roles::{self as role_store, RoleId, RoleRow},
        users::UserId,
    },
};

/// Gives `holder` a role.
pub(crate) async fn bind(
    tx: &mut TenantTx,
    changes: &Changes,
    who: &Principal,
    holder: Holder,
    role: &RoleRow,
    expires_at: Option<Moment>,
) -> Result<Audited<BindingRow>, AccountsError> {
    service::person(who)?;
    not_self(who, holder)?;
    roles::exists(tx, holder).await?;
    let before = powers(tx, holder).await?;
    // What it gives is not changed while it gets another holder.
    role_store::hold(tx, role.id).await?;
    let grants = role_store::grants(tx, role.id).await?;
    roles::check_grants(who, &grants)?;
    // Also of what the holder has already, which may end earlier.
    let given = permissions(tx.tenant(), &grants);
    holders::check_lasting(tx, who, &given, expires_at).await?;
    if !grants.deny.is_empty() && is_owner(tx, holder).await? {
        return Err(AccountsError::Forbidden(holders::OWNER_IS_DENIED));
    }
    let row = bound(tx, holder, role.id, format!("user:{}", who.id), expires_at);
    store::insert(tx, &row).await?;
    holders::check_holder(tx, who, holder, &before, expires_at).await?;
    recorded(tx, changes, row).await
}

/// Gives a role without anybody who grants it: the first administrator's.
pub(crate) async fn bind_by_operator(
    tx: &mut TenantTx,
    changes: &Changes,
    user: UserId,
    role: &RoleRow,
) -> Result<Audited<()>, AccountsError> {
    let holder = Holder::User(user);
    let row = bound(tx, holder, role.id, "operator".to_owned(), None);
    store::insert(tx, &row).await?;
    Ok(recorded(tx, changes, row).await?.map(drop))
}

/// What follows once a role is given.
async fn recorded(
    tx: &mut TenantTx,
    changes: &Changes,
    row: BindingRow,
) -> Result<Audited<BindingRow>, AccountsError> {
    forget(tx, changes, row.holder().ok_or(AccountsError::NotFound)?).await?;
    tx.emit(&RoleBindingCreated::of(&row))?;
    Ok(act(&row, "role_given").record(tx)?.of(row))
}

/// An act upon a binding.
fn act(row: &BindingRow, change: &'static str) -> Act {
    let principal = row.holder().map(|holder| holder.uuid()).unwrap_or_default();
    Act::done(AUTHZ_CHANGE, Resource::RoleBinding, row.id.uuid())
        .detail("change", change)
        .detail("role", row.role_id.to_string())
        .detail("principal", principal.to_string())
}

/// Takes a role away.
pub(crate) async fn unbind(
    tx: &mut TenantTx,
    changes: &Changes,
    who: &Principal,
    id: BindingId,
) -> Result<Audited<()>, AccountsError> {
    service::person(who)?;
    let row = store::find(tx, id).await?.ok_or(AccountsError::NotFound)?;
    let holder = row.holder().ok_or(AccountsError::NotFound)?;
    not_self(who, holder)?;
    roles::check_grants(who, &role_store::grants(tx, row.role_id).await?)?;
    let before = powers(tx, holder).await?;
    if let Holder::User(user) = holder {
        roles::keeps_owner_without(tx, user, Some(row.role_id)).await?;
    }
    // Another request may have been faster since it was found.
    if store::delete(tx, id).await? == 0 {
        return Err(AccountsError::NotFound);
    }
    holders::check_holder(tx, who, holder, &before, None).await?;
    forget(tx, changes, holder).await?;
    tx.emit(&RoleBindingDeleted::of(&row))?;
    Ok(act(&row, "role_taken").record(tx)?.of(()))
}

/// What they may do themselves is not theirs to change.
pub(super) fn not_self(who: &Principal, holder: Holder) -> Result<(), AccountsError> {
    if holder.uuid() == who.id {
        return Err(AccountsError::Forbidden(
            "users cannot change their own roles",
        ));
    }
    Ok(())
}

/// Whether `holder` has the owner's role.
async fn is_owner(tx: &mut TenantTx, holder: Holder) -> Result<bool, AccountsError> {
    match (holder, role_store::find_named(tx, roles::OWNER).await?) {
        (Holder::User(user), Some(owner)) => Ok(store::has_role(tx, user, owner.id).await?),
        _ => Ok(false),
    }
}

fn bound(
    tx: &TenantTx,
    holder: Holder,
    role: RoleId,
    granted_by: String,
    expires_at: Option<Moment>,
) -> BindingRow {
    BindingRow {
        id: Id::new(),
        tenant_id: tx.tenant(),
        user_id: holder.user(),
        service_account_id: holder.service(),
        role_id: role,
        granted_by,
        created_at: Moment::now(),
        expires_at,
    }
}

/// Lets every instance forget what the holder may do.
pub(super) async fn forget(
    tx: &mut TenantTx,
    changes: &Changes,
    holder: Holder,
) -> Result<(), AccountsError> {
    let change = match holder {
        Holder::User(id) => Change::User(id),
        Holder::Service(id) => Change::Service(id),
    };
    changes.record(tx, change).await
}
