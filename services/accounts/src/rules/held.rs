//! What principals hold, for good or until a time: roles, and permissions without a role. The same rules hold for both: a
//! caller does not give what it lacks, does not change what it holds itself, and does not take the last owner away.

use dotmac_platform::{
    access::{PermissionSet, Principal},
    audit::Audited,
    db::{
        TenantTx,
        types::{Id, Moment},
    },
    events::Emit as _,
};

use super::{
    holders::{self, powers},
    powers::Powers,
    roles,
};
use crate::{
    AccountsError,
    audit::{AUTHZ_CHANGE, Act, Resource},
    changes::{Change, Changes},
    events::{GrantCreated, GrantDeleted, RoleBindingCreated, RoleBindingDeleted},
    service::{self, permissions},
    store::{
        bindings::{self, BindingRow, Holder},
        grants::{self, GrantRow},
        roles::{self as role_store, RoleId, RoleRow},
        users::UserId,
    },
};

/// Roles of one principal, and permissions without a role.
const MOST: i64 = 100;

/// Who gets something, and until when; for good without an end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) holder: Holder,
    pub(crate) expires_at: Option<Moment>,
}

/// Gives a role.
///
/// # Errors
///
/// [`AccountsError::Forbidden`] for what the caller lacks, or has for a shorter time; [`AccountsError::Invalid`].
pub(crate) async fn give_role(
    tx: &mut TenantTx,
    changes: &Changes,
    who: &Principal,
    terms: Terms,
    role: &RoleRow,
) -> Result<Audited<BindingRow>, AccountsError> {
    let before = before_gift(tx, who, terms).await?;
    // What the role gives is not changed while it gets another holder.
    role_store::hold(tx, role.id).await?;
    let given = role_store::grants(tx, role.id).await?;
    may_give(tx, who, &permissions(tx.tenant(), &given), terms).await?;
    if !given.deny.is_empty() && is_owner(tx, terms.holder).await? {
        return Err(AccountsError::Forbidden(holders::OWNER_IS_DENIED));
    }
    if bindings::count_of(tx, terms.holder).await? >= MOST {
        return Err(AccountsError::Forbidden(
            "the principal has reached the limit of roles",
        ));
    }
    let row = bound(tx, terms, role.id, by(who));
    bindings::insert(tx, &row).await?;
    holders::check_holder(tx, who, terms.holder, &before, terms.expires_at).await?;
    role_given(tx, changes, row).await
}

/// Gives a role without a caller who has it: the first administrator's.
pub(crate) async fn give_role_by_operator(
    tx: &mut TenantTx,
    changes: &Changes,
    user: UserId,
    role: &RoleRow,
) -> Result<Audited<()>, AccountsError> {
    let terms = Terms {
        holder: Holder::User(user),
        expires_at: None,
    };
    let row = bound(tx, terms, role.id, "operator".to_owned());
    bindings::insert(tx, &row).await?;
    Ok(role_given(tx, changes, row).await?.map(drop))
}

/// What follows once a role is given.
async fn role_given(
    tx: &mut TenantTx,
    changes: &Changes,
    row: BindingRow,
) -> Result<Audited<BindingRow>, AccountsError> {
    forget(tx, changes, row.holder().ok_or(AccountsError::NotFound)?).await?;
    tx.emit(&RoleBindingCreated::of(&row))?;
    Ok(role_act(&row, "role_given").record(tx)?.of(row))
}

/// Takes a role away.
///
/// # Errors
///
/// [`AccountsError::NotFound`], [`AccountsError::LastOwner`]; [`AccountsError::Forbidden`] for what the caller lacks.
pub(crate) async fn take_role(
    tx: &mut TenantTx,
    changes: &Changes,
    who: &Principal,
    row: &BindingRow,
) -> Result<Audited<()>, AccountsError> {
    let holder = row.holder().ok_or(AccountsError::NotFound)?;
    may_take(who, holder)?;
    roles::check_grants(who, &role_store::grants(tx, row.role_id).await?)?;
    let before = powers(tx, holder).await?;
    if let Holder::User(user) = holder {
        roles::keeps_owner_without(tx, user, Some(row.role_id)).await?;
    }
    // Another request may have been faster since it was found.
    if bindings::delete(tx, row.id).await? == 0 {
        return Err(AccountsError::NotFound);
    }
    holders::check_holder(tx, who, holder, &before, None).await?;
    forget(tx, changes, holder).await?;
    tx.emit(&RoleBindingDeleted::of(row))?;
    Ok(role_act(row, "role_taken").record(tx)?.of(()))
}

/// Gives a permission by its name. A pattern is refused: a later version may declare more permissions that fit it.
///
/// # Errors
///
/// As [`give_role`].
pub(crate) async fn give_permission(
    tx: &mut TenantTx,
    changes: &Changes,
    who: &Principal,
    terms: Terms,
    permission: String,
) -> Result<Audited<GrantRow>, AccountsError> {
    let given = set_of(&permission)?;
    let before = before_gift(tx, who, terms).await?;
    may_give(tx, who, &given, terms).await?;
    let holder = terms.holder;
    if grants::count_of(tx, holder).await? >= MOST {
        return Err(AccountsError::Forbidden(
            "the principal has reached the limit of grants; create a role",
        ));
    }
    let row = GrantRow {
        id: Id::new(),
        tenant_id: tx.tenant(),
        user_id: holder.user(),
        service_account_id: holder.service(),
        permission,
        granted_by: by(who),
        created_at: Moment::now(),
        expires_at: terms.expires_at,
    };
    grants::insert(tx, &row).await?;
    holders::check_holder(tx, who, holder, &before, row.expires_at).await?;
    forget(tx, changes, holder).await?;
    tx.emit(&GrantCreated {
        grant: row.id.uuid(),
        permission: row.permission.clone(),
        principal: row.principal(),
    })?;
    Ok(grant_act(&row, "permission_given").record(tx)?.of(row))
}

/// Takes a permission away that was given without a role.
///
/// # Errors
///
/// [`AccountsError::NotFound`]; [`AccountsError::Forbidden`] for what the caller lacks.
pub(crate) async fn take_permission(
    tx: &mut TenantTx,
    changes: &Changes,
    who: &Principal,
    row: &GrantRow,
) -> Result<Audited<()>, AccountsError> {
    let holder = row.holder().ok_or(AccountsError::NotFound)?;
    may_take(who, holder)?;
    let mut taken = PermissionSet::default();
    taken.grant(&row.permission);
    roles::covered(who, &taken)?;
    let before = powers(tx, holder).await?;
    // Another request may have been faster since it was found.
    if grants::delete(tx, row.id).await? == 0 {
        return Err(AccountsError::NotFound);
    }
    holders::check_holder(tx, who, holder, &before, None).await?;
    forget(tx, changes, holder).await?;
    tx.emit(&GrantDeleted {
        grant: row.id.uuid(),
        permission: row.permission.clone(),
        principal: row.principal(),
    })?;
    Ok(grant_act(row, "permission_taken").record(tx)?.of(()))
}

/// Checks the terms of a gift, and holds the holder. What the holder may do before.
async fn before_gift(
    tx: &mut TenantTx,
    who: &Principal,
    terms: Terms,
) -> Result<Powers, AccountsError> {
    service::person(who)?;
    not_self(who, terms.holder)?;
    if terms.expires_at.is_some_and(|end| end <= Moment::now()) {
        let rule = "is in the future";
        return Err(AccountsError::field("expires_at", "expiry_invalid", rule));
    }
    roles::exists(tx, terms.holder).await?;
    powers(tx, terms.holder).await
}

/// Whether the caller has all of `given` as long as the holder gets it, also what the holder has already, which may end earlier.
async fn may_give(
    tx: &mut TenantTx,
    who: &Principal,
    given: &PermissionSet,
    terms: Terms,
) -> Result<(), AccountsError> {
    roles::covered(who, given)?;
    holders::check_lasting(tx, who, given, terms.expires_at).await
}

fn may_take(who: &Principal, holder: Holder) -> Result<(), AccountsError> {
    service::person(who)?;
    not_self(who, holder)
}

/// A caller does not change its own permissions.
fn not_self(who: &Principal, holder: Holder) -> Result<(), AccountsError> {
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
        (Holder::User(user), Some(owner)) => Ok(bindings::has_role(tx, user, owner.id).await?),
        _ => Ok(false),
    }
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

fn by(who: &Principal) -> String {
    format!("user:{}", who.id)
}

fn bound(tx: &TenantTx, terms: Terms, role: RoleId, granted_by: String) -> BindingRow {
    BindingRow {
        id: Id::new(),
        tenant_id: tx.tenant(),
        user_id: terms.holder.user(),
        service_account_id: terms.holder.service(),
        role_id: role,
        granted_by,
        created_at: Moment::now(),
        expires_at: terms.expires_at,
    }
}

/// An act upon a binding.
fn role_act(row: &BindingRow, change: &'static str) -> Act {
    Act::done(AUTHZ_CHANGE, Resource::RoleBinding, row.id.uuid())
        .detail("change", change)
        .detail("role", row.role_id.to_string())
        .detail("principal", row.principal().to_string())
}

/// An act upon a grant.
fn grant_act(row: &GrantRow, change: &'static str) -> Act {
    Act::done(AUTHZ_CHANGE, Resource::Grant, row.id.uuid())
        .detail("change", change)
        .detail("permission", row.permission.clone())
        .detail("principal", row.principal().to_string())
}

/// Makes every instance forget the permissions of the holder.
async fn forget(tx: &mut TenantTx, changes: &Changes, holder: Holder) -> Result<(), AccountsError> {
    let change = match holder {
        Holder::User(id) => Change::User(id),
        Holder::Service(id) => Change::Service(id),
    };
    changes.record(tx, change).await
}
