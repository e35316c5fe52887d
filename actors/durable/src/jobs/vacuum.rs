//! What keeps PostgreSQL from taking away dead rows, of which a queue makes many: a transaction that is open for long.

use diesel::{
    sql_query,
    sql_types::{BigInt, Integer, Text},
};
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError, OptionalExtension};

/// A session whose transaction holds back the vacuum.
#[derive(Clone, Debug, PartialEq, Eq, diesel::QueryableByName)]
pub struct VacuumHolder {
    /// The process of the server.
    #[diesel(sql_type = Integer)]
    pub pid: i32,
    /// What it is doing: `active`, `idle in transaction`.
    #[diesel(sql_type = Text)]
    pub state: String,
    /// How long its transaction is open.
    #[diesel(sql_type = BigInt)]
    pub seconds: i64,
}

/// The session whose transaction has been open longest, if that is 10 s and it holds back the vacuum; of those that the user
/// of the database may see. `None` on SQLite.
///
/// # Errors
///
/// [`DbError`].
pub async fn vacuum_holder(c: &mut Connection) -> Result<Option<VacuumHolder>, DbError> {
    let Connection::Postgres(postgres) = c else {
        return Ok(None);
    };
    let query = sql_query(
        "SELECT pid, state, floor(extract(epoch FROM clock_timestamp() - xact_start))::bigint AS seconds \
         FROM pg_stat_activity WHERE datname = current_database() AND state IS NOT NULL \
         AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL) \
         AND xact_start < clock_timestamp() - interval '10 s' ORDER BY xact_start LIMIT 1",
    );
    let found = query.get_result(&mut **postgres).await;
    c.classified(found).optional()
}
