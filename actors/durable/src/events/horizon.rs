//! Up to where the log can be read: nothing can appear below it any more.

use diesel::{dsl::max, prelude::*};
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError};

use super::tables::event;
use crate::order::oldest_open;

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
    let xid = oldest_open(c).await?;
    let Connection::Sqlite(sqlite) = c else {
        let position = i64::MAX;
        return Ok(Horizon { xid, position });
    };
    let query = event::table.select(max(event::position));
    let position = query.get_result::<Option<i64>>(&mut **sqlite).await;
    let position = c.classified(position)?.unwrap_or_default();
    Ok(Horizon { xid, position })
}
