//! Tenants and their members.

use dotmac_platform::{
    access::Principal,
    db::{
        AcrossTx, TenantId, TenantScope, TenantTx,
        types::{Id, Moment},
    },
    events::Emit as _,
};

use super::roles;
use crate::{
    AccountsError, Act,
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

/// Words that a tenant's slug must not be: parts of addresses of the house.
const RESERVED: [&str; 6] = ["admin", "api", "default", "health", "system", "www"];

/// Makes a tenant; whoever makes it is its owner.
pub(crate) async fn create(
    tx: &mut AcrossTx<'_>,
    changes: &Changes,
    owner: UserId,
    slug: String,
    name: String,
) -> Result<TenantRow, AccountsError> {
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
    };
    store::insert(tx.system().await?, &row).await?;
    let scope = TenantScope::system(row.id, "make a tenant");
    let tx = tx.tenant(&scope).await?;
    roles::seed(tx).await?;
    users::join(tx, row.id, owner).await?;
    let role = roles::named(tx, roles::OWNER).await?;
    roles::bind_by_operator(tx, changes, owner, &role).await?;
    Act::success("tenant_created", "tenant", row.id.uuid()).record(tx);
    Ok(row)
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

/// Names the tenant anew, in the version that the client has seen.
pub(crate) async fn rename(
    tx: &mut TenantTx,
    seen: &TenantRow,
    name: String,
) -> Result<(), AccountsError> {
    service::changed(store::rename(tx, seen, name).await?)?;
    Act::success("tenant_updated", "tenant", seen.id.uuid()).record(tx);
    Ok(())
}

/// Ends the membership of a user; its roles, sessions and keys of the tenant end with it.
pub(crate) async fn remove_member(
    tx: &mut TenantTx,
    changes: &Changes,
    who: &Principal,
    id: UserId,
) -> Result<(), AccountsError> {
    service::person(who)?;
    if who.id == id.uuid() {
        return Err(AccountsError::Forbidden("nobody does this to themselves"));
    }
    roles::exists(tx, Holder::User(id)).await?;
    // Before the owner's role is held, as where roles are given and taken.
    users::hold_member(tx, id).await?;
    let theirs = crate::store::bindings::grants_of(tx, Holder::User(id)).await?;
    roles::check_grants(who, &theirs)?;
    roles::keeps_owner_without(tx, id, None).await?;
    users::leave(tx, id).await?;
    changes.record(tx, Change::User(id)).await?;
    Act::success("membership_removed", "user", id.uuid()).record(tx);
    tx.emit(&MemberRemoved { user: id })?;
    Ok(())
}
