//! Tenants.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    Connection, DbError, OptionalExtension, Querying as _, TenantId, Tx, on,
    types::{Id, Moment},
};
use uuid::Uuid;

use super::schema::tenants;

/// The tenant of an installation that has no others. Its row comes with the tables.
pub(crate) const DEFAULT: TenantId =
    Id::from_uuid(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001));

#[derive(Clone, Debug, Insertable, Queryable, Selectable)]
#[diesel(table_name = tenants)]
pub(crate) struct TenantRow {
    pub(crate) id: TenantId,
    pub(crate) slug: String,
    pub(crate) name: String,
    pub(crate) status: String,
    pub(crate) version: i64,
    pub(crate) created_at: Moment,
    /// Whether its members need a second factor.
    pub(crate) mfa_required: bool,
}

pub(crate) async fn insert(tx: &mut Tx, row: &TenantRow) -> Result<(), DbError> {
    on!(tx, |c| diesel::insert_into(tenants::table)
        .values(row)
        .execute(c)
        .await)
    .map(drop)
}

pub(crate) async fn find(tx: &mut Connection, id: TenantId) -> Result<Option<TenantRow>, DbError> {
    let query = tenants::table.filter(tenants::id.eq(id));
    on!(tx, |c| query.select(TenantRow::as_select()).first(c).await).optional()
}

/// Holds the tenant until the transaction ends: what is counted in it is created by one at a time.
pub(crate) async fn hold(tx: &mut Tx, id: TenantId) -> Result<(), DbError> {
    let Connection::Postgres(c) = tx.connection() else {
        return Ok(());
    };
    let row = tenants::table.filter(tenants::id.eq(id));
    let row = row.select(tenants::id).for_no_key_update();
    let held: QueryResult<Vec<TenantId>> = row.load(&mut **c).await;
    tx.classified(held).map(drop)
}

/// Those of `ids` that exist.
pub(crate) async fn find_all(
    tx: &mut Connection,
    ids: Vec<TenantId>,
) -> Result<Vec<TenantRow>, DbError> {
    let query = tenants::table.filter(tenants::id.eq_any(ids));
    on!(tx, |c| query.select(TenantRow::as_select()).load(c).await)
}

/// Sets whether members need a second factor, in the version that was seen; 0 if it has another one.
pub(crate) async fn set_policy(
    tx: &mut Tx,
    seen: &TenantRow,
    mfa_required: bool,
) -> Result<usize, DbError> {
    let this_one = tenants::id
        .eq(seen.id)
        .and(tenants::version.eq(seen.version));
    let change = (
        tenants::mfa_required.eq(mfa_required),
        tenants::version.eq(tenants::version + 1),
    );
    let update = diesel::update(tenants::table.filter(this_one)).set(change);
    on!(tx, |c| update.execute(c).await)
}

/// Renames the tenant in the version that was seen; 0 if it has another one.
pub(crate) async fn rename(tx: &mut Tx, seen: &TenantRow, name: String) -> Result<usize, DbError> {
    let this_one = tenants::id
        .eq(seen.id)
        .and(tenants::version.eq(seen.version));
    let change = (
        tenants::name.eq(name),
        tenants::version.eq(tenants::version + 1),
    );
    let update = diesel::update(tenants::table.filter(this_one)).set(change);
    on!(tx, |c| update.execute(c).await)
}
