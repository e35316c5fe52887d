//! Service accounts: principals without a password, each in one tenant.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    Connection, DbError, OptionalExtension, Querying as _, TenantId, TenantTx, on,
    types::{Id, Moment},
};

use super::{
    schema::service_accounts,
    slice::{Slice, sliced},
};

/// A mark for ids.
pub(crate) enum ServiceAccount {}

pub(crate) type ServiceAccountId = Id<ServiceAccount>;

#[derive(Clone, Debug, Insertable, Queryable, Selectable)]
#[diesel(table_name = service_accounts)]
pub(crate) struct ServiceAccountRow {
    pub(crate) id: ServiceAccountId,
    pub(crate) tenant_id: TenantId,
    pub(crate) name: String,
    pub(crate) status: String,
    pub(crate) version: i64,
    pub(crate) created_at: Moment,
}

pub(crate) async fn insert(tx: &mut TenantTx, row: &ServiceAccountRow) -> Result<(), DbError> {
    on!(tx, |c| diesel::insert_into(service_accounts::table)
        .values(row)
        .execute(c)
        .await)
    .map(drop)
}

pub(crate) async fn find(
    tx: &mut TenantTx,
    id: ServiceAccountId,
) -> Result<Option<ServiceAccountRow>, DbError> {
    let this_one = service_accounts::tenant_id
        .eq(tx.tenant())
        .and(service_accounts::id.eq(id));
    let query = service_accounts::table.filter(this_one);
    on!(tx, |c| query
        .select(ServiceAccountRow::as_select())
        .first(c)
        .await)
    .optional()
}

pub(crate) async fn page(
    tx: &mut TenantTx,
    status: Option<String>,
    slice: Slice<ServiceAccountId>,
) -> Result<Vec<ServiceAccountRow>, DbError> {
    let tenant = tx.tenant();
    on!(tx, |c| {
        let mut query = service_accounts::table
            .filter(service_accounts::tenant_id.eq(tenant))
            .select(ServiceAccountRow::as_select())
            .into_boxed();
        if let Some(status) = status {
            query = query.filter(service_accounts::status.eq(status));
        }
        sliced!(query, service_accounts::id, slice).load(c).await
    })
}

pub(crate) async fn count(tx: &mut TenantTx) -> Result<i64, DbError> {
    let query = service_accounts::table
        .filter(service_accounts::tenant_id.eq(tx.tenant()))
        .count();
    on!(tx, |c| query.get_result(c).await)
}

/// Holds the account until the transaction ends: what it may do is changed by one at a time.
pub(crate) async fn hold(tx: &mut TenantTx, id: ServiceAccountId) -> Result<(), DbError> {
    let this_one = service_accounts::tenant_id
        .eq(tx.tenant())
        .and(service_accounts::id.eq(id));
    let Connection::Postgres(c) = tx.connection() else {
        return Ok(());
    };
    let row = service_accounts::table.filter(this_one);
    let row = row.select(service_accounts::id).for_no_key_update();
    let held: QueryResult<Vec<ServiceAccountId>> = row.load(&mut **c).await;
    tx.classified(held).map(drop)
}

/// Changes the account in the version that was seen; 0 if it has another one.
pub(crate) async fn update(
    tx: &mut TenantTx,
    seen: &ServiceAccountRow,
    name: String,
    status: String,
) -> Result<usize, DbError> {
    let this_one = service_accounts::tenant_id
        .eq(tx.tenant())
        .and(service_accounts::id.eq(seen.id))
        .and(service_accounts::version.eq(seen.version));
    let update = diesel::update(service_accounts::table.filter(this_one)).set((
        service_accounts::name.eq(name),
        service_accounts::status.eq(status),
        service_accounts::version.eq(service_accounts::version + 1),
    ));
    on!(tx, |c| update.execute(c).await)
}

/// Deletes the account with its keys and roles, in the version that was seen; 0 if it has another one.
pub(crate) async fn delete(tx: &mut TenantTx, seen: &ServiceAccountRow) -> Result<usize, DbError> {
    let this_one = service_accounts::tenant_id
        .eq(tx.tenant())
        .and(service_accounts::id.eq(seen.id))
        .and(service_accounts::version.eq(seen.version));
    on!(tx, |c| diesel::delete(
        service_accounts::table.filter(this_one)
    )
    .execute(c)
    .await)
}

/// The status of an account in a tenant that authentication has found.
pub(crate) async fn status_in(
    tx: &mut Connection,
    tenant: TenantId,
    id: ServiceAccountId,
) -> Result<Option<String>, DbError> {
    let this_one = service_accounts::tenant_id
        .eq(tenant)
        .and(service_accounts::id.eq(id));
    let query = service_accounts::table
        .filter(this_one)
        .select(service_accounts::status);
    on!(tx, |c| query.first(c).await).optional()
}
