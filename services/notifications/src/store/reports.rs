//! Ids of calls by which relays reported something, so that none has its effect twice.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{DbError, TenantTx, Tx, on, types::Moment};

use super::schema::notification_report as report;

/// Notes a call; `false` if it was taken before.
pub(crate) async fn insert(tx: &mut TenantTx, id: String, now: Moment) -> Result<bool, DbError> {
    let row = (
        report::tenant_id.eq(tx.tenant()),
        report::id.eq(id),
        report::received_at.eq(now),
    );
    let insert = diesel::insert_into(report::table).values(row);
    let insert = insert
        .on_conflict((report::tenant_id, report::id))
        .do_nothing();
    on!(tx, |c| insert.execute(c).await).map(|rows| rows > 0)
}

/// Forgets calls that came before then, of all tenants.
pub(crate) async fn delete_older(tx: &mut Tx, before: Moment) -> Result<usize, DbError> {
    let old = report::table.filter(report::received_at.lt(before));
    on!(tx, |c| diesel::delete(old).execute(c).await)
}
