//! Tenants and their members.

use dotmac_platform::{
    access::Principal,
    audit::Audited,
    db::{
        AcrossTx, TenantId, TenantScope, TenantTx,
        types::{Id, Moment},
    },
    events::Emit as _,
    routing::IfMatch,
};

use super::{held, roles};
use crate::{
    AccountsError,
    audit::{Act, MEMBERSHIP_REMOVED, Resource, TENANT_CREATED, TENANT_UPDATED},
    changes::{Change, Changes},
    events::MemberRemoved,
    service,
    store::{
        ACTIVE,
        bindings::Holder,
        tenants::{self as store, TenantRow},
        users::{self, UserId},
    },
};

/// Words that a tenant's slug must not be: parts of addresses of the program.
const RESERVED: [&str; 6] = ["admin", "api", "default", "health", "system", "www"];

/// Creates a tenant; the caller becomes its owner.
pub(crate) async fn create(
    tx: &mut AcrossTx<'_>,
    changes: &Changes,
    owner: UserId,
    slug: String,
    name: String,
) -> Result<Audited<TenantRow>, AccountsError> {
    if RESERVED.contains(&slug.as_str()) {
        return Err(AccountsError::field("slug", "slug_reserved", "is reserved"));
    }
    let row = TenantRow {
        id: Id::new(),
        slug,
        name,
        status: ACTIVE.to_owned(),
        version: 1,
        created_at: Moment::now(),
        mfa_required: false,
    };
    store::insert(tx.system().await?, &row).await?;
    let scope = TenantScope::system(row.id, "make a tenant");
    let own = tx.tenant(&scope).await?;
    roles::seed(own).await?;
    users::join(own, row.id, owner).await?;
    let role = roles::named(own, roles::OWNER).await?;
    held::give_role_by_operator(own, changes, owner, &role).await?;
    // In its own log and in that of the operators, of whom its maker is one.
    let system = tx.system().await?;
    let act = || {
        let act = Act::done(TENANT_CREATED, Resource::Tenant, row.id.uuid());
        act.detail("owner", owner.to_string())
    };
    act().record_in(system, row.id)?.of(());
    let recorded = act().record(system)?;
    Ok(recorded.of(row))
}

/// The tenant of the transaction, if it is the one of that id.
///
/// # Errors
///
/// [`AccountsError::NotFound`] for every other.
pub(crate) async fn find(tx: &mut TenantTx, id: TenantId) -> Result<TenantRow, AccountsError> {
    if tx.tenant() != id {
        return Err(AccountsError::NotFound);
    }
    store::find(tx, id).await?.ok_or(AccountsError::NotFound)
}

/// Renames the tenant, in the version that the client has seen.
pub(crate) async fn rename(
    tx: &mut TenantTx,
    seen: &TenantRow,
    name: String,
) -> Result<Audited<()>, AccountsError> {
    service::changed(store::rename(tx, seen, name).await?)?;
    let act = Act::done(TENANT_UPDATED, Resource::Tenant, seen.id.uuid());
    Ok(act.record(tx)?.of(()))
}

/// Sets whether the members of the tenant need a second factor, in the version that the client has seen. A caller that requires
/// it must have shown one.
///
/// # Errors
///
/// 403 `step_up_required`.
pub(crate) async fn set_policy(
    tx: &mut TenantTx,
    changes: &Changes,
    who: &Principal,
    seen: &TenantRow,
    mfa_required: bool,
) -> Result<Audited<()>, AccountsError> {
    if mfa_required {
        service::authenticated_now(who, 2)?;
    }
    service::changed(store::set_policy(tx, seen, mfa_required).await?)?;
    changes.record(tx, Change::Tenant(seen.id)).await?;
    let act = Act::done(TENANT_UPDATED, Resource::Tenant, seen.id.uuid());
    let act = act.detail("mfa_required", mfa_required.to_string());
    Ok(act.record(tx)?.of(()))
}

/// Ends the membership of a user, if the user is in a version that the client has seen; its roles, sessions and keys of the tenant
/// end with it.
pub(crate) async fn remove_member(
    tx: &mut TenantTx,
    changes: &Changes,
    who: &Principal,
    id: UserId,
    seen: &IfMatch,
) -> Result<Audited<()>, AccountsError> {
    service::person(who)?;
    if who.id == id.uuid() {
        return Err(AccountsError::Forbidden(
            "callers cannot do this to themselves",
        ));
    }
    // Before the owner's role is held, as where roles are given and taken.
    users::hold_member(tx, id).await?;
    let user = users::find_member(tx, id).await?;
    seen.check(user.ok_or(AccountsError::NotFound)?.version)?;
    roles::covers_holder(tx, who, Holder::User(id)).await?;
    roles::keeps_owner_without(tx, id, None).await?;
    users::leave(tx, id).await?;
    changes.record(tx, Change::User(id)).await?;
    tx.emit(&MemberRemoved { user: id })?;
    Ok(Act::on_user(MEMBERSHIP_REMOVED, id).record(tx)?.of(()))
}
