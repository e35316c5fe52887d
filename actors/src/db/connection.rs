//! A pooled connection of either back end, and the one macro that writes a query for both.

use diesel::{QueryResult, SqliteConnection, connection::TransactionManager as _};
use diesel_async::{
    AnsiTransactionManager, AsyncPgConnection, TransactionManager,
    pooled_connection::deadpool::Object, sync_connection_wrapper::SyncConnectionWrapper,
};

/// An asynchronous SQLite connection: its work is done on blocking threads of the database's runtime.
pub(super) type AsyncSqliteConnection = SyncConnectionWrapper<SqliteConnection>;

/// A connection on loan from the pool.
///
/// Use it through [`on!`](crate::on); the variants are public for code that must differ by back end.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each piece of work, and never a collection of them"
)]
pub enum Connection {
    /// To PostgreSQL.
    Postgres(Object<AsyncPgConnection>),
    /// To SQLite.
    Sqlite(Object<AsyncSqliteConnection>),
}

/// Runs the same diesel expression on whichever back end the connection is of.
///
/// `on!(connection, |c| expression)`: `c` is the back end's own connection; the expression is compiled
/// once for each, so it must be valid for both.
#[macro_export]
macro_rules! on {
    ($connection:expr, |$c:ident| $expression:expr) => {
        match $connection {
            $crate::db::Connection::Postgres($c) => {
                let $c = &mut **$c;
                $expression
            }
            $crate::db::Connection::Sqlite($c) => {
                let $c = &mut **$c;
                $expression
            }
        }
    };
}

impl Connection {
    /// Begins a transaction; on SQLite one that may write from the start, so that it cannot fail half-way
    /// for want of the lock.
    pub(super) async fn begin(&mut self) -> QueryResult<()> {
        match self {
            Self::Postgres(c) => AnsiTransactionManager::begin_transaction(&mut **c).await,
            Self::Sqlite(c) => {
                c.spawn_blocking(|c| {
                    diesel::connection::AnsiTransactionManager::begin_transaction_sql(
                        c,
                        "BEGIN IMMEDIATE",
                    )
                })
                .await
            }
        }
    }

    pub(super) async fn commit(&mut self) -> QueryResult<()> {
        match self {
            Self::Postgres(c) => AnsiTransactionManager::commit_transaction(&mut **c).await,
            Self::Sqlite(c) => {
                c.spawn_blocking(diesel::connection::AnsiTransactionManager::commit_transaction)
                    .await
            }
        }
    }

    pub(super) async fn rollback(&mut self) -> QueryResult<()> {
        match self {
            Self::Postgres(c) => AnsiTransactionManager::rollback_transaction(&mut **c).await,
            Self::Sqlite(c) => {
                c.spawn_blocking(diesel::connection::AnsiTransactionManager::rollback_transaction)
                    .await
            }
        }
    }

    /// Closes it instead of giving it back: whatever was open in it is rolled back by the database.
    pub(super) fn discard(self) {
        match self {
            Self::Postgres(c) => drop(Object::take(c)),
            Self::Sqlite(c) => drop(Object::take(c)),
        }
    }
}
