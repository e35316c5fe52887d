//! Permissions that a principal has without a role.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    Connection, DbError, OptionalExtension, TenantId, TenantTx, on,
    types::{Id, Moment},
};

use super::{bindings::Holder, schema::grants, service_accounts::ServiceAccountId, users::UserId};

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

impl GrantRow {
    /// Who has it. A row has exactly one of both, which the table checks.
    pub(crate) fn holder(&self) -> Option<Holder> {
        let user = self.user_id.map(Holder::User);
        user.or(self.service_account_id.map(Holder::Service))
    }
}

/// Stores the grant in the place of one for the same permission that is over.
pub(crate) async fn insert(tx: &mut TenantTx, row: &GrantRow) -> Result<(), DbError> {
    let over = grants::tenant_id
        .eq(tx.tenant())
        .and(grants::permission.eq(row.permission.clone()))
        .and(grants::expires_at.lt(Moment::now()));
    on!(tx, |c| {
        let over = diesel::delete(grants::table.filter(over)).into_boxed();
        let over = match (row.user_id, row.service_account_id) {
            (Some(user), _) => over.filter(grants::user_id.eq(user)),
            (None, account) => over.filter(grants::service_account_id.eq(account)),
        };
        over.execute(c).await
    })?;
    on!(tx, |c| diesel::insert_into(grants::table)
        .values(row)
        .execute(c)
        .await)
    .map(drop)
}

pub(crate) async fn find(tx: &mut TenantTx, id: GrantId) -> Result<Option<GrantRow>, DbError> {
    let this_one = grants::tenant_id.eq(tx.tenant()).and(grants::id.eq(id));
    let query = grants::table.filter(this_one);
    on!(tx, |c| query.select(GrantRow::as_select()).first(c).await).optional()
}

pub(crate) async fn delete(tx: &mut TenantTx, id: GrantId) -> Result<usize, DbError> {
    let this_one = grants::tenant_id.eq(tx.tenant()).and(grants::id.eq(id));
    on!(tx, |c| diesel::delete(grants::table.filter(this_one))
        .execute(c)
        .await)
}

pub(crate) async fn page(
    tx: &mut TenantTx,
    after: Option<GrantId>,
    limit: i64,
) -> Result<Vec<GrantRow>, DbError> {
    let tenant = tx.tenant();
    on!(tx, |c| {
        let mut query = grants::table
            .filter(grants::tenant_id.eq(tenant))
            .select(GrantRow::as_select())
            .order(grants::id.asc())
            .limit(limit)
            .into_boxed();
        if let Some(after) = after {
            query = query.filter(grants::id.gt(after));
        }
        query.load(c).await
    })
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
        let query = match holder {
            Holder::User(id) => query.filter(grants::user_id.eq(id)),
            Holder::Service(id) => query.filter(grants::service_account_id.eq(id)),
        };
        query.load(c).await
    })
}

/// When the first of them ends that `holder` has now.
pub(crate) async fn first_end(
    tx: &mut Connection,
    tenant: TenantId,
    holder: Holder,
) -> Result<Option<Moment>, DbError> {
    let end: Option<Option<Moment>> = on!(tx, |c| {
        let query = grants::table
            .filter(grants::tenant_id.eq(tenant))
            .filter(grants::expires_at.gt(Moment::now()))
            .order(grants::expires_at.asc())
            .select(grants::expires_at)
            .into_boxed();
        let query = match holder {
            Holder::User(id) => query.filter(grants::user_id.eq(id)),
            Holder::Service(id) => query.filter(grants::service_account_id.eq(id)),
        };
        query.first(c).await
    })
    .optional()?;
    Ok(end.flatten())
}

/// How many there are of `holder`, those that are over included.
pub(crate) async fn count_of(tx: &mut TenantTx, holder: Holder) -> Result<i64, DbError> {
    let tenant = tx.tenant();
    on!(tx, |c| {
        let query = grants::table
            .filter(grants::tenant_id.eq(tenant))
            .count()
            .into_boxed();
        let query = match holder {
            Holder::User(id) => query.filter(grants::user_id.eq(id)),
            Holder::Service(id) => query.filter(grants::service_account_id.eq(id)),
        };
        query.get_result(c).await
    })
}
