//! Which transaction made a job ready, so that jobs that have become ready lately can be found without the entries of all
//! that were claimed before: see `claim::known`. On SQLite, where no reader keeps such entries, it is 0.

use dotmac_db::{Connection, Querying, Tx};

/// What the column `ready_xid` is set to with the state `ready`.
pub(super) fn xid(tx: &mut Tx) -> &'static str {
    match tx.connection() {
        Connection::Postgres(_) => "pg_current_xact_id()::text::bigint",
        Connection::Sqlite(_) => "0",
    }
}
