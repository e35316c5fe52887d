//! What keeps PostgreSQL from removing dead rows, of which a queue makes many: a transaction that is open for long or is
//! prepared and forgotten, and a replication slot whose reader does not go on.

use diesel::{
    sql_query,
    sql_types::{BigInt, Nullable, Text},
};
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError};

/// What holds back the vacuum.
#[derive(Clone, Debug, PartialEq, Eq, diesel::QueryableByName)]
pub struct VacuumHolder {
    /// A session by its process and what it is doing, a prepared transaction, or a replication slot.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// How long its transaction is open; `None` for a slot, which has none.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub seconds: Option<i64>,
}

/// The session whose transaction has been open longest, the prepared transaction and the replication slot that are oldest, of
/// those that hold back the vacuum: transactions for 10 s, slots that are inactive or 10,000 transactions behind. Sessions are
/// those that the user of the database may see. None on SQLite.
///
/// # Errors
///
/// [`DbError`].
pub async fn vacuum_holders(c: &mut Connection) -> Result<Vec<VacuumHolder>, DbError> {
    let Connection::Postgres(postgres) = c else {
        return Ok(Vec::new());
    };
    let query = sql_query(
        "(SELECT 'pid ' || pid || ', ' || state AS name, \
         floor(extract(epoch FROM clock_timestamp() - xact_start))::bigint AS seconds \
         FROM pg_stat_activity WHERE datname = current_database() AND state IS NOT NULL \
         AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL) \
         AND xact_start < clock_timestamp() - interval '10 s' ORDER BY xact_start LIMIT 1) \
         UNION ALL (SELECT 'prepared transaction `' || left(regexp_replace(gid, '[[:cntrl:]`]', ' ', 'g'), 80) || '`,', \
         floor(extract(epoch FROM clock_timestamp() - prepared))::bigint \
         FROM pg_prepared_xacts WHERE database = current_database() \
         AND prepared < clock_timestamp() - interval '10 s' ORDER BY prepared LIMIT 1) \
         UNION ALL (SELECT 'replication slot `' || slot_name || '`' || CASE WHEN active THEN '' ELSE ', inactive' END || \
         CASE WHEN xmin IS NULL THEN ' (for system tables alone)' ELSE '' END || ', ' || behind || ' transactions behind', \
         NULL FROM pg_replication_slots, LATERAL (SELECT greatest(age(xmin), age(catalog_xmin)) AS behind) AS age \
         WHERE behind > CASE WHEN active THEN 10000 ELSE 0 END ORDER BY xmin IS NULL, behind DESC LIMIT 1)",
    );
    let found = query.load(&mut **postgres).await;
    c.classified(found)
}
