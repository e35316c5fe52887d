//! Service accounts.

use dotmac_platform::{
    access::Principal,
    audit::Audited,
    db::{
        TenantTx,
        types::{Id, Moment},
    },
};

use super::roles;
use crate::{
    AccountsError,
    audit::{
        Act, Resource, SERVICE_ACCOUNT_CREATED, SERVICE_ACCOUNT_DELETED, SERVICE_ACCOUNT_UPDATED,
    },
    changes::{Change, Changes},
    service,
    store::{
        ACTIVE,
        bindings::Holder,
        service_accounts::{self as store, ServiceAccountId, ServiceAccountRow},
        tenants,
    },
};

/// Service accounts of a tenant.
const MOST: i64 = 1000;

pub(crate) async fn create(
    tx: &mut TenantTx,
    who: &Principal,
    name: String,
) -> Result<Audited<ServiceAccountRow>, AccountsError> {
    service::person(who)?;
    let tenant = tx.tenant();
    tenants::hold(tx, tenant).await?;
    if store::count(tx).await? >= MOST {
        return Err(AccountsError::Forbidden(
            "the tenant has reached the limit of service accounts",
        ));
    }
    let row = ServiceAccountRow {
        id: Id::new(),
        tenant_id: tx.tenant(),
        name,
        status: ACTIVE.to_owned(),
        version: 1,
        created_at: Moment::now(),
    };
    store::insert(tx, &row).await?;
    let act = Act::done(
        SERVICE_ACCOUNT_CREATED,
        Resource::ServiceAccount,
        row.id.uuid(),
    );
    Ok(act.record(tx)?.of(row))
}

pub(crate) async fn find(
    tx: &mut TenantTx,
    id: ServiceAccountId,
) -> Result<ServiceAccountRow, AccountsError> {
    store::find(tx, id).await?.ok_or(AccountsError::NotFound)
}

pub(crate) async fn update(
    tx: &mut TenantTx,
    changes: &Changes,
    who: &Principal,
    row: &ServiceAccountRow,
    name: String,
    status: &'static str,
) -> Result<Audited<()>, AccountsError> {
    may_change(tx, who, row.id).await?;
    service::changed(store::update(tx, row, name, status.to_owned()).await?)?;
    changes.record(tx, Change::Service(row.id)).await?;
    let act = Act::done(
        SERVICE_ACCOUNT_UPDATED,
        Resource::ServiceAccount,
        row.id.uuid(),
    );
    Ok(act.detail("status", status).record(tx)?.of(()))
}

pub(crate) async fn delete(
    tx: &mut TenantTx,
    changes: &Changes,
    who: &Principal,
    row: &ServiceAccountRow,
) -> Result<Audited<()>, AccountsError> {
    may_change(tx, who, row.id).await?;
    service::changed(store::delete(tx, row).await?)?;
    changes.record(tx, Change::Service(row.id)).await?;
    let act = Act::done(
        SERVICE_ACCOUNT_DELETED,
        Resource::ServiceAccount,
        row.id.uuid(),
    );
    Ok(act.record(tx)?.of(()))
}

/// Whether the caller may do all that the account may: else a key of the account would give the caller more.
pub(super) async fn may_change(
    tx: &mut TenantTx,
    who: &Principal,
    id: ServiceAccountId,
) -> Result<(), AccountsError> {
    service::person(who)?;
    roles::covers_holder(tx, who, Holder::Service(id)).await
}
