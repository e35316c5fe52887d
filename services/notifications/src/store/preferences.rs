//! What users want to get, by category and channel.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{DbError, TenantId, TenantTx, insert_all, on, types::Moment};

use super::{deliveries::UserId, schema::notification_preference as preference};

#[derive(Clone, Insertable, Queryable, Selectable)]
#[diesel(table_name = preference)]
pub(crate) struct PreferenceRow {
    pub(crate) tenant_id: TenantId,
    pub(crate) user_id: UserId,
    /// `*` for all.
    pub(crate) category: String,
    /// `*` for all.
    pub(crate) channel: String,
    pub(crate) enabled: bool,
    pub(crate) updated_at: Moment,
}

/// All of a user, by category and channel.
pub(crate) async fn of_user(
    tx: &mut TenantTx,
    user: UserId,
) -> Result<Vec<PreferenceRow>, DbError> {
    let mine = preference::tenant_id
        .eq(tx.tenant())
        .and(preference::user_id.eq(user));
    on!(tx, |c| {
        let query = preference::table
            .filter(mine)
            .order((preference::category.asc(), preference::channel.asc()));
        query.select(PreferenceRow::as_select()).load(c).await
    })
}

/// Puts `rows` in the place of all that the user has.
pub(crate) async fn replace(
    tx: &mut TenantTx,
    user: UserId,
    rows: Vec<PreferenceRow>,
) -> Result<(), DbError> {
    let mine = preference::tenant_id
        .eq(tx.tenant())
        .and(preference::user_id.eq(user));
    let delete = diesel::delete(preference::table.filter(mine));
    on!(tx, |c| delete.execute(c).await)?;
    insert_all!(tx, preference::table, rows).map(drop)
}
