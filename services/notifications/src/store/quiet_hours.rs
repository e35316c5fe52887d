//! When users are not to be disturbed.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{DbError, OptionalExtension as _, TenantId, TenantTx, on, types::Moment};

use super::{deliveries::UserId, schema::notification_quiet_hours as quiet_hours};

#[derive(Clone, Insertable, Queryable, Selectable)]
#[diesel(table_name = quiet_hours)]
pub(crate) struct QuietHoursRow {
    pub(crate) tenant_id: TenantId,
    pub(crate) user_id: UserId,
    /// IANA name.
    pub(crate) zone: String,
    /// Minutes since midnight.
    pub(crate) begins_at: i32,
    /// Minutes since midnight.
    pub(crate) ends_at: i32,
    pub(crate) updated_at: Moment,
}

pub(crate) async fn find(
    tx: &mut TenantTx,
    user: UserId,
) -> Result<Option<QuietHoursRow>, DbError> {
    let this_one = (tx.tenant(), user);
    on!(tx, |c| {
        let query = quiet_hours::table.find(this_one);
        query.select(QuietHoursRow::as_select()).first(c).await
    })
    .optional()
}

/// Puts `row` in the place of what the user has; nothing without one.
pub(crate) async fn replace(
    tx: &mut TenantTx,
    user: UserId,
    row: Option<QuietHoursRow>,
) -> Result<(), DbError> {
    let this_one = quiet_hours::table.find((tx.tenant(), user));
    on!(tx, |c| diesel::delete(this_one).execute(c).await)?;
    let Some(row) = row else { return Ok(()) };
    let insert = diesel::insert_into(quiet_hours::table).values(row);
    on!(tx, |c| insert.execute(c).await).map(drop)
}
