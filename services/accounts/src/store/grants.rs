//! Permissions that a principal has without a role.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    Connection, DbError, OptionalExtension, TenantId, TenantTx, on,
    types::{Id, Moment},
};

use super::{
    bindings::Holder,
    held::{held_rows, of_holder},
    schema::grants,
    service_accounts::ServiceAccountId,
    users::UserId,
};

/// A mark for ids.
pub(crate) enum Grant {}

pub(crate) type GrantId = Id<Grant>;

#[derive(Clone, Debug, Insertable, Queryable, Selectable)]
#[diesel(table_name = grants)]
pub(crate) struct GrantRow {
    pub(crate) id: GrantId,
    pub(crate) tenant_id: TenantId,
    pub(crate) user_id: Option<UserId>,
    pub(crate) service_account_id: Option<ServiceAccountId>,
    /// Its name.
    pub(crate) permission: String,
    pub(crate) granted_by: String,
    pub(crate) created_at: Moment,
    pub(crate) expires_at: Option<Moment>,
}

held_rows!(grants, GrantRow, GrantId);

/// Stores the grant in the place of one for the same permission that is over.
pub(crate) async fn insert(tx: &mut TenantTx, row: &GrantRow) -> Result<(), DbError> {
    let over = grants::tenant_id
        .eq(tx.tenant())
        .and(grants::permission.eq(row.permission.clone()))
        .and(grants::expires_at.lt(Moment::now()));
    let holder = row.holder();
    on!(tx, |c| {
        let over = diesel::delete(grants::table.filter(over)).into_boxed();
        match holder {
            Some(holder) => of_holder!(over, grants, holder).execute(c).await,
            None => Ok(0),
        }
    })?;
    insert_row(tx, row).await
}

/// All permissions of the tenant that principals have now without a role.
pub(crate) async fn all_now(tx: &mut TenantTx) -> Result<Vec<(Holder, String)>, DbError> {
    let is_now = grants::expires_at
        .is_null()
        .or(grants::expires_at.gt(Moment::now()));
    let query = grants::table
        .filter(grants::tenant_id.eq(tx.tenant()))
        .filter(is_now);
    let rows: Vec<GrantRow> = on!(tx, |c| query.select(GrantRow::as_select()).load(c).await)?;
    let held = rows
        .into_iter()
        .filter_map(|row| Some((row.holder()?, row.permission)));
    Ok(held.collect())
}

/// The permissions that `holder` has without a role until `time` at least.
pub(crate) async fn names_at(
    tx: &mut Connection,
    tenant: TenantId,
    holder: Holder,
    time: Moment,
) -> Result<Vec<String>, DbError> {
    let lasts = grants::expires_at.is_null().or(grants::expires_at.ge(time));
    on!(tx, |c| {
        let query = grants::table
            .filter(grants::tenant_id.eq(tenant))
            .filter(lasts)
            .select(grants::permission)
            .into_boxed();
        of_holder!(query, grants, holder).load(c).await
    })
}

/// How many there are of `holder`, those that are over included.
pub(crate) async fn count_of(tx: &mut TenantTx, holder: Holder) -> Result<i64, DbError> {
    let tenant = tx.tenant();
    on!(tx, |c| {
        let query = grants::table
            .filter(grants::tenant_id.eq(tenant))
            .count()
            .into_boxed();
        of_holder!(query, grants, holder).get_result(c).await
    })
}
