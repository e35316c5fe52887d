//! The operations of a connection for migrations, on each back end.

use std::time::Duration;

use diesel::{
    Connection as _, QueryResult, SqliteConnection, backend::Backend, connection::SimpleConnection,
    pg::Pg, sqlite::Sqlite,
};
use diesel_async::{AsyncPgConnection, async_connection_wrapper::AsyncConnectionWrapper};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness};

use tracing::warn;

use crate::{Migrations, OpenError};

/// Names the lock of migrating processes; any constant that is used only here.
const ADVISORY_LOCK: i64 = 0x646f_746d_6163;

/// Between two tries to get it. It is not waited for within a statement: that would be a transaction, and
/// `CREATE INDEX CONCURRENTLY` waits for all transactions to end.
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// The longest that reading the schema waits for a lock. It is tried again, and until then nothing would be
/// known of what it waits for.
const BRIEFLY: Duration = Duration::from_secs(1);

/// Indexes of this schema that are not valid and that no session is building.
const UNFINISHED: &str = "SELECT format('%I.%I', space.nspname, class.relname) AS text FROM pg_index \
    JOIN pg_class class ON class.oid = pg_index.indexrelid JOIN pg_namespace space ON space.oid = class.relnamespace \
    WHERE NOT pg_index.indisvalid AND class.relkind = 'i' AND space.nspname = current_schema() AND NOT EXISTS \
    (SELECT FROM pg_stat_progress_create_index building WHERE building.index_relid = class.oid)";

pub(super) type PgConnection = AsyncConnectionWrapper<AsyncPgConnection>;

/// Waits for the advisory lock. A migration has no time limit, but not wait for a table's lock longer than
/// other work: all later statements wait for it.
pub(super) fn lock(connection: &mut PgConnection, lock_timeout: Duration) -> Result<(), OpenError> {
    let attempt = format!("SELECT pg_try_advisory_lock({ADVISORY_LOCK})::text AS text");
    while connection.texts(&attempt).map_err(locking_failed)? != ["true"] {
        #[expect(clippy::disallowed_methods, reason = "on a blocking thread")]
        std::thread::sleep(LOCK_PAUSE);
    }
    let limits = format!(
        "SET statement_timeout = 0; SET lock_timeout = {}",
        lock_timeout.as_millis()
    );
    connection.batch_execute(&limits).map_err(locking_failed)
}

/// Sets a session up that only reads the schema.
pub(super) fn lock_briefly(connection: &mut PgConnection) -> Result<(), OpenError> {
    let limit = format!("SET lock_timeout = {}", BRIEFLY.as_millis());
    connection.batch_execute(&limit).map_err(locking_failed)
}

/// The operations of a connection for migrations, on either back end.
pub(super) trait Schema:
    SimpleConnection + diesel::Connection + MigrationHarness<Self::Backend>
{
    /// The column `text` of all rows.
    fn texts(&mut self, query: &str) -> QueryResult<Vec<String>>;

    /// The query of how many tables have that name.
    fn tables_named(name: &str) -> String;

    fn has_table(&mut self, name: &str) -> QueryResult<bool> {
        let count = self.texts(&Self::tables_named(name))?;
        Ok(count.first().is_some_and(|count| count != "0"))
    }

    /// The other sessions that have a lock on a table, in words.
    fn holders_of(&mut self, table: &str) -> String;

    /// Prepares for a script that runs without a transaction, such as one with `CREATE INDEX CONCURRENTLY`. Such a statement
    /// delays no writer, so it may wait for older transactions; and an index that it left unfinished must go before it runs again.
    fn prepare_untransacted(&mut self) -> QueryResult<()> {
        Ok(())
    }

    /// Limits how long statements wait for a lock.
    fn limit_locks(&mut self, _limit: Duration) -> QueryResult<()> {
        Ok(())
    }

    /// Of the statements of a script that failed, the one that did.
    fn culprit(&mut self, statements: &[&str], done: u64) -> usize;

    fn source(migrations: Migrations) -> &'static EmbeddedMigrations;
}

#[derive(diesel::QueryableByName)]
struct Text {
    #[diesel(sql_type = diesel::sql_types::Text)]
    text: String,
}

fn unwrapped(rows: Vec<Text>) -> Vec<String> {
    rows.into_iter().map(|row| row.text).collect()
}

impl Schema for SqliteConnection {
    fn texts(&mut self, query: &str) -> QueryResult<Vec<String>> {
        diesel::RunQueryDsl::load(diesel::sql_query(query), self).map(unwrapped)
    }

    fn tables_named(name: &str) -> String {
        format!(
            "SELECT CAST(count(*) AS TEXT) AS text FROM sqlite_master WHERE type = 'table' AND name = '{name}'"
        )
    }

    fn holders_of(&mut self, _table: &str) -> String {
        "another process".to_owned()
    }

    /// SQLite does not tell how far it came, so the statements are tried one by one, and all taken back.
    fn culprit(&mut self, statements: &[&str], _done: u64) -> usize {
        let mut tried = 0;
        let trying = self.transaction::<(), diesel::result::Error, _>(|c| {
            for statement in statements {
                c.batch_execute(statement)?;
                tried += 1;
            }
            Err(diesel::result::Error::RollbackTransaction)
        });
        debug_assert!(trying.is_err(), "taken back");
        tried
    }

    fn source(migrations: Migrations) -> &'static EmbeddedMigrations {
        migrations.sqlite
    }
}

impl Schema for PgConnection {
    fn texts(&mut self, query: &str) -> QueryResult<Vec<String>> {
        diesel::RunQueryDsl::load(diesel::sql_query(query), self).map(unwrapped)
    }

    fn tables_named(name: &str) -> String {
        format!("SELECT count(to_regclass('{name}'))::text AS text")
    }

    fn holders_of(&mut self, table: &str) -> String {
        let query = format!(
            "SELECT DISTINCT concat_ws(' ', 'process', pid, quote_literal(nullif(application_name, ''))) AS text \
             FROM pg_locks JOIN pg_stat_activity USING (pid) \
             WHERE relation = to_regclass('{table}') AND granted AND pid <> pg_backend_pid()"
        );
        match self.texts(&query) {
            Ok(holders) if !holders.is_empty() => holders.join(", "),
            // It has let go, or another of the schema's tables is meant.
            _ => "another session".to_owned(),
        }
    }

    fn prepare_untransacted(&mut self) -> QueryResult<()> {
        for index in self.texts(UNFINISHED)? {
            warn!(index, "dropping an index that a migration left unfinished");
            self.batch_execute(&format!("DROP INDEX CONCURRENTLY {index}"))?;
        }
        self.limit_locks(Duration::ZERO)
    }

    fn limit_locks(&mut self, limit: Duration) -> QueryResult<()> {
        self.batch_execute(&format!("SET lock_timeout = {}", limit.as_millis()))
    }

    /// The server reports the end of each statement.
    fn culprit(&mut self, _statements: &[&str], done: u64) -> usize {
        usize::try_from(done).unwrap_or(usize::MAX)
    }

    fn source(migrations: Migrations) -> &'static EmbeddedMigrations {
        migrations.postgres
    }
}

/// A back end whose migrations are compiled in.
pub(super) trait SupportedBackend: Backend + 'static {}

impl SupportedBackend for Pg {}
impl SupportedBackend for Sqlite {}

pub(super) fn locking_failed(source: diesel::result::Error) -> OpenError {
    OpenError::Query {
        what: "locking the database for migration",
        source,
    }
}
