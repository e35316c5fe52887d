//! Up to where rows that are ordered by their transaction can be read: nothing can appear below it any more.

use diesel::{dsl::sql, sql_types::BigInt};
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError};

/// The oldest transaction that may still add rows; all below it have ended. What the same connection reads after it is
/// complete below it, since a later snapshot sees all that had ended. SQLite has one writer, so there it is beyond all.
pub(crate) async fn oldest_open(c: &mut Connection) -> Result<i64, DbError> {
    let Connection::Postgres(postgres) = c else {
        return Ok(i64::MAX);
    };
    let query = diesel::select(sql::<BigInt>(
        "pg_snapshot_xmin(pg_current_snapshot())::text::bigint",
    ));
    let xid = query.get_result(&mut **postgres).await;
    c.classified(xid)
}
