//! Up to where the log can be read: nothing can appear below it any more.

use diesel::{
    dsl::{max, sql},
    prelude::*,
    sql_types::BigInt,
};
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError};

use super::tables::event;

/// What bounds the part of the log that is complete: events below `xid`, up to `position`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Horizon {
    /// PostgreSQL: the oldest transaction that may still add events; all below it have ended.
    pub(super) xid: i64,
    /// SQLite: the last event when it was asked.
    pub(super) position: i64,
}

/// The horizon now. What the same connection reads after it is complete below it, since a later snapshot sees all that
/// had ended.
pub(super) async fn horizon(c: &mut Connection) -> Result<Horizon, DbError> {
    match c {
        Connection::Postgres(postgres) => {
            let query = diesel::select(sql::<BigInt>(
                "pg_snapshot_xmin(pg_current_snapshot())::text::bigint",
            ));
            let xid = query.get_result(&mut **postgres).await;
            Ok(Horizon {
                xid: c.classified(xid)?,
                position: i64::MAX,
            })
        }
        Connection::Sqlite(sqlite) => {
            let query = event::table.select(max(event::position));
            let position = query.get_result::<Option<i64>>(&mut **sqlite).await;
            Ok(Horizon {
                xid: i64::MAX,
                position: c.classified(position)?.unwrap_or_default(),
            })
        }
    }
}
