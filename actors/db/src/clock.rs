//! The database's own time, by which instances whose clocks differ agree on when something ends.

use diesel::{dsl::sql, sql_types::Timestamp};
use diesel_async::RunQueryDsl;

use super::{Connection, DbError, Querying, Tx, on, types::Moment};

/// The time of the database server. SQLite has none: its file is on this machine.
///
/// # Errors
///
/// [`DbError`] if the server does not say.
pub(super) async fn now(tx: &mut Tx) -> Result<Moment, DbError> {
    match tx.connection() {
        Connection::Sqlite(_) => Ok(Moment::now()),
        Connection::Postgres(_) => {
            let now = diesel::select(sql::<Timestamp>("clock_timestamp() AT TIME ZONE 'UTC'"));
            on!(tx, |c| now.get_result(c).await)
        }
    }
}
