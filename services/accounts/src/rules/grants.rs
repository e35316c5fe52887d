//! Permissions that a principal has without a role, for good or until a time. What holds for roles holds for them.

use dotmac_platform::{
    access::{PermissionSet, Principal},
    audit::Audited,
    db::{
        TenantTx,
        types::{Id, Moment},
    },
    events::Emit as _,
};
use uuid::Uuid;

use super::{
    holders::{self, powers},
    role_bindings::{forget, not_self},
    roles,
};
use crate::{
    AccountsError,
    audit::{AUTHZ_CHANGE, Act, Resource},
    changes::Changes,
    events::{GrantCreated, GrantDeleted},
    service,
    store::{
        bindings::Holder,
        grants::{self as store, GrantId, GrantRow},
    },
};

/// Grants of one principal.
const MOST: i64 = 100;

/// A permission to give.
pub(crate) struct NewGrant {
    pub(crate) holder: Holder,
    /// Its name, no pattern: a later version may declare more that fits a pattern.
    pub(crate) permission: String,
    pub(crate) expires_at: Option<Moment>,
}

/// Gives a permission.
///
/// # Errors
///
/// [`AccountsError::Forbidden`] for what the caller lacks, or has for a shorter time; [`AccountsError::Invalid`].
pub(crate) async fn create(
    tx: &mut TenantTx,
    changes: &Changes,
    who: &Principal,
    new: NewGrant,
) -> Result<Audited<GrantRow>, AccountsError> {
    service::person(who)?;
    not_self(who, new.holder)?;
    let set = set_of(&new.permission)?;
    if new.expires_at.is_some_and(|end| end <= Moment::now()) {
        let rule = "is in the future";
        return Err(AccountsError::field("expires_at", "expiry_invalid", rule));
    }
    roles::exists(tx, new.holder).await?;
    let before = powers(tx, new.holder).await?;
    roles::covered(who, &set)?;
    // Also of what the holder has already, which may end earlier.
    holders::check_lasting(tx, who, &set, new.expires_at).await?;
    if store::count_of(tx, new.holder).await? >= MOST {
        return Err(AccountsError::Forbidden(
            "the principal has reached the limit of grants; create a role",
        ));
    }
    let row = GrantRow {
        id: Id::new(),
        tenant_id: tx.tenant(),
        user_id: new.holder.user(),
        service_account_id: new.holder.service(),
        permission: new.permission,
        granted_by: format!("user:{}", who.id),
        created_at: Moment::now(),
        expires_at: new.expires_at,
    };
    store::insert(tx, &row).await?;
    holders::check_holder(tx, who, new.holder, &before, row.expires_at).await?;
    forget(tx, changes, new.holder).await?;
    tx.emit(&GrantCreated {
        grant: row.id.uuid(),
        permission: row.permission.clone(),
        principal: principal(&row),
    })?;
    Ok(act(&row, "permission_given").record(tx)?.of(row))
}

/// Takes a permission away.
///
/// # Errors
///
/// [`AccountsError::NotFound`]; [`AccountsError::Forbidden`] for what the caller lacks.
pub(crate) async fn delete(
    tx: &mut TenantTx,
    changes: &Changes,
    who: &Principal,
    id: GrantId,
) -> Result<Audited<()>, AccountsError> {
    service::person(who)?;
    let row = store::find(tx, id).await?.ok_or(AccountsError::NotFound)?;
    let holder = row.holder().ok_or(AccountsError::NotFound)?;
    not_self(who, holder)?;
    let mut set = PermissionSet::default();
    set.grant(&row.permission);
    roles::covered(who, &set)?;
    let before = powers(tx, holder).await?;
    // Another request may have been faster since it was found.
    if store::delete(tx, id).await? == 0 {
        return Err(AccountsError::NotFound);
    }
    holders::check_holder(tx, who, holder, &before, None).await?;
    forget(tx, changes, holder).await?;
    tx.emit(&GrantDeleted {
        grant: id.uuid(),
        permission: row.permission.clone(),
        principal: principal(&row),
    })?;
    Ok(act(&row, "permission_taken").record(tx)?.of(()))
}

/// The permission of that name.
fn set_of(name: &str) -> Result<PermissionSet, AccountsError> {
    let mut set = PermissionSet::default();
    if name.contains('*') {
        let rule = "is a name and no pattern; roles have patterns";
        return Err(AccountsError::field("permission", "no_pattern", rule));
    }
    roles::check_names("permission", std::slice::from_ref(&name.to_owned()))?;
    set.grant(name);
    Ok(set)
}

fn principal(row: &GrantRow) -> Uuid {
    row.holder().map(Holder::uuid).unwrap_or_default()
}

/// An act upon a grant.
fn act(row: &GrantRow, change: &'static str) -> Act {
    Act::done(AUTHZ_CHANGE, Resource::Grant, row.id.uuid())
        .detail("change", change)
        .detail("permission", row.permission.clone())
        .detail("principal", principal(row).to_string())
}
