//! Roles of a tenant, and what they give and deny. A caller creates and changes no role with a permission that it lacks.

use dotmac_platform::{
    access::{PermissionSet, Principal},
    audit::Audited,
    db::{
        TenantTx,
        types::{Id, Moment},
    },
};
use uuid::Uuid;

use super::{holders, powers::Powers};
use crate::{
    AccountsError,
    audit::{AUTHZ_CHANGE, Act, ROLE_CREATED, ROLE_DELETED, Resource},
    changes::{Change, Changes},
    service::{self, permissions},
    store::{
        bindings::{self, Holder},
        roles::{self as store, RoleGrants, RoleId, RoleRow},
        service_accounts, tenants,
        users::{self, UserId},
    },
};

/// The role that may do everything, and of which each tenant keeps one holder.
pub(crate) const OWNER: &str = "owner";

pub(super) const LACKS: &str = "callers cannot grant or change a permission that they lack";

/// Roles of a tenant.
const MOST_ROLES: i64 = 200;

/// Roles that each tenant begins with: name, what it is for, what it gives, what it denies.
const SYSTEM: [(&str, &str, &[&str], &[&str]); 4] = [
    (OWNER, "May do everything.", &["*"], &[]),
    (
        "admin",
        "May do everything but change the tenant itself.",
        &["*"],
        &["accounts.tenants.write"],
    ),
    ("member", "May use what every member may.", &[], &[]),
    ("auditor", "May read the audit trail.", &["audit.*"], &[]),
];

/// Makes the roles that the tenant lacks of those it begins with.
pub(crate) async fn seed(tx: &mut TenantTx) -> Result<(), AccountsError> {
    for (name, description, allow, deny) in SYSTEM {
        if store::find_named(tx, name).await?.is_some() {
            continue;
        }
        let row = RoleRow {
            id: Id::new(),
            tenant_id: tx.tenant(),
            name: name.to_owned(),
            description: description.to_owned(),
            is_system: true,
            version: 1,
            created_at: Moment::now(),
        };
        store::insert(tx, &row).await?;
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let grants = RoleGrants {
            allow: owned(allow),
            deny: owned(deny),
        };
        store::set_grants(tx, row.id, grants).await?;
    }
    Ok(())
}

/// The tenant's role of that name.
pub(crate) async fn named(tx: &mut TenantTx, name: &str) -> Result<RoleRow, AccountsError> {
    store::find_named(tx, name).await?.ok_or_else(|| {
        AccountsError::field(
            "roles",
            "unknown_role",
            format!("there is no role `{name}`"),
        )
    })
}

pub(crate) async fn find(
    tx: &mut TenantTx,
    id: RoleId,
) -> Result<(RoleRow, RoleGrants), AccountsError> {
    let row = store::find(tx, id).await?.ok_or(AccountsError::NotFound)?;
    let grants = store::grants(tx, id).await?;
    Ok((row, grants))
}

/// Makes a role.
pub(crate) async fn create(
    tx: &mut TenantTx,
    who: &Principal,
    name: String,
    description: String,
    grants: RoleGrants,
) -> Result<Audited<RoleRow>, AccountsError> {
    service::person(who)?;
    check_named(who, &grants)?;
    let tenant = tx.tenant();
    tenants::hold(tx, tenant).await?;
    if store::count(tx).await? >= MOST_ROLES {
        return Err(AccountsError::Forbidden(
            "the tenant has reached the limit of roles",
        ));
    }
    let row = RoleRow {
        id: Id::new(),
        tenant_id: tx.tenant(),
        name,
        description,
        is_system: false,
        version: 1,
        created_at: Moment::now(),
    };
    store::insert(tx, &row).await?;
    store::set_grants(tx, row.id, grants).await?;
    let act = Act::done(ROLE_CREATED, Resource::Role, row.id.uuid());
    Ok(act.record(tx)?.of(row))
}

/// Changes a role that is the tenant's own, in the version that the client has seen.
pub(crate) async fn update(
    tx: &mut TenantTx,
    changes: &Changes,
    who: &Principal,
    row: RoleRow,
    (name, description): (String, String),
    grants: Option<RoleGrants>,
) -> Result<Audited<()>, AccountsError> {
    service::person(who)?;
    own(&row)?;
    not_held_by(tx, who, row.id).await?;
    store::hold(tx, row.id).await?;
    // The caller needs what the role gives and denies now as well: else it could take that from others, or give it back.
    check_named(who, &store::grants(tx, row.id).await?)?;
    service::changed(store::update(tx, &row, name, description).await?)?;
    if let Some(grants) = grants {
        check_named(who, &grants)?;
        holders::check_role(tx, who, &row, &grants).await?;
        let had_owner = has_owner(tx, None).await?;
        store::set_grants(tx, row.id, grants).await?;
        if had_owner && !has_owner(tx, None).await? {
            return Err(AccountsError::LastOwner);
        }
    }
    let tenant = tx.tenant();
    changes.record(tx, Change::Tenant(tenant)).await?;
    let act = Act::done(AUTHZ_CHANGE, Resource::Role, row.id.uuid());
    Ok(act.detail("change", "role_changed").record(tx)?.of(()))
}

/// Deletes a role that is the tenant's own.
pub(crate) async fn delete(
    tx: &mut TenantTx,
    changes: &Changes,
    who: &Principal,
    row: &RoleRow,
) -> Result<Audited<()>, AccountsError> {
    service::person(who)?;
    own(row)?;
    not_held_by(tx, who, row.id).await?;
    store::hold(tx, row.id).await?;
    check_named(who, &store::grants(tx, row.id).await?)?;
    holders::check_role(tx, who, row, &RoleGrants::default()).await?;
    service::changed(store::delete(tx, row).await?)?;
    let tenant = tx.tenant();
    changes.record(tx, Change::Tenant(tenant)).await?;
    let act = Act::done(ROLE_DELETED, Resource::Role, row.id.uuid());
    Ok(act.record(tx)?.of(()))
}

/// Whether the tenant has an active owner without `user`. With `role`, only if that is the owner's.
///
/// # Errors
///
/// [`AccountsError::LastOwner`].
pub(crate) async fn keeps_owner_without(
    tx: &mut TenantTx,
    user: UserId,
    role: Option<RoleId>,
) -> Result<(), AccountsError> {
    let Some(owner) = store::find_named(tx, OWNER).await? else {
        return Ok(());
    };
    let is_concerned =
        role.is_none_or(|role| role == owner.id) && bindings::has_role(tx, user, owner.id).await?;
    if is_concerned && !has_owner(tx, Some(user)).await? {
        return Err(AccountsError::LastOwner);
    }
    Ok(())
}

/// Whether an active user other than `except` has the owner's role for good, and no other role that takes something of it
/// away. The role is held until the end of the transaction, so that two owners cannot remove each other at once.
async fn has_owner(tx: &mut TenantTx, except: Option<UserId>) -> Result<bool, AccountsError> {
    let Some(owner) = store::find_named(tx, OWNER).await? else {
        return Ok(false);
    };
    store::hold(tx, owner.id).await?;
    let all = permissions(tx.tenant(), &store::grants(tx, owner.id).await?);
    for user in bindings::active_holders(tx, owner.id).await? {
        if Some(user) == except {
            continue;
        }
        let grants = bindings::grants_of(tx, Holder::User(user)).await?;
        if permissions(tx.tenant(), &grants).covers(&all) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the caller has everything that `grants` gives.
///
/// # Errors
///
/// [`AccountsError::Forbidden`] for what it lacks.
pub(crate) fn check_grants(who: &Principal, grants: &RoleGrants) -> Result<(), AccountsError> {
    covered(who, &permissions(who.tenant, grants))
}

/// Whether the caller has everything that `grants` names, given or denied.
///
/// # Errors
///
/// [`AccountsError::Forbidden`] for what it lacks.
fn check_named(who: &Principal, grants: &RoleGrants) -> Result<(), AccountsError> {
    let named = RoleGrants {
        allow: [grants.allow.as_slice(), grants.deny.as_slice()].concat(),
        deny: Vec::new(),
    };
    check_grants(who, &named)
}

/// Whether the caller has all that `holder` may do, now or later.
///
/// # Errors
///
/// [`AccountsError::Forbidden`] for what it lacks.
pub(crate) async fn covers_holder(
    tx: &mut TenantTx,
    who: &Principal,
    holder: Holder,
) -> Result<(), AccountsError> {
    let tenant = tx.tenant();
    covered(who, &Powers::of(tx, tenant, holder).await?.ever)
}

/// Whether the caller has all of `set`.
///
/// # Errors
///
/// [`AccountsError::Forbidden`] for what it lacks.
pub(crate) fn covered(who: &Principal, set: &PermissionSet) -> Result<(), AccountsError> {
    if who.permissions.covers(set) {
        Ok(())
    } else {
        Err(AccountsError::Forbidden(LACKS))
    }
}

/// Whether each name stands for a permission.
///
/// # Errors
///
/// [`AccountsError::Invalid`] names the first that does not.
pub(crate) fn check_names(field: &'static str, names: &[String]) -> Result<(), AccountsError> {
    let unknown = names
        .iter()
        .find(|name| PermissionSet::default().grant(name) == 0);
    match unknown {
        None => Ok(()),
        Some(name) => Err(AccountsError::field(
            field,
            "unknown_permission",
            format!("`{name}` is unknown; GET /api/v1/permissions lists all names"),
        )),
    }
}

fn own(row: &RoleRow) -> Result<(), AccountsError> {
    if row.is_system {
        return Err(AccountsError::Forbidden(
            "roles of the system cannot be changed",
        ));
    }
    Ok(())
}

/// A caller does not change a role that it has.
async fn not_held_by(
    tx: &mut TenantTx,
    who: &Principal,
    role: RoleId,
) -> Result<(), AccountsError> {
    if bindings::has_role(tx, Id::from_uuid(who.id), role).await? {
        return Err(AccountsError::Forbidden(
            "users cannot change their own roles",
        ));
    }
    Ok(())
}

/// The user or the service account of the tenant that has the id.
///
/// # Errors
///
/// [`AccountsError::NotFound`].
pub(crate) async fn holder(tx: &mut TenantTx, id: Uuid) -> Result<Holder, AccountsError> {
    if let Some(user) = users::find_member(tx, Id::from_uuid(id)).await? {
        return Ok(Holder::User(user.id));
    }
    let account = service_accounts::find(tx, Id::from_uuid(id)).await?;
    Ok(Holder::Service(account.ok_or(AccountsError::NotFound)?.id))
}

/// Whether `holder` is of the tenant.
pub(crate) async fn exists(tx: &mut TenantTx, holder: Holder) -> Result<(), AccountsError> {
    let is_there = match holder {
        Holder::User(id) => users::find_member(tx, id).await?.is_some(),
        Holder::Service(id) => service_accounts::find(tx, id).await?.is_some(),
    };
    if is_there {
        Ok(())
    } else {
        Err(AccountsError::NotFound)
    }
}
