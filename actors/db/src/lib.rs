//! The database: one actor that keeps it usable, one handle through which all code queries it.
//!
//! [`DbActor`] opens the pool, brings the schema up to date, monitors the database in parallel with the traffic and
//! reports its state. Queries do not pass through its mailbox: [`Db::run`] takes a connection from the pool that the
//! actor has published and runs the work on the database's own runtime, to its end, even if the caller is dropped. So
//! a cancelled request can neither panic a worker (SQLite) nor leave a transaction open (PostgreSQL).
//!
//! A query is written once for both back ends, as plain diesel inside [`on!`](crate::on):
//!
//! ```no_run
//! # use dotmac_db::{Db, DbError};
//! # use dotmac_db::on;
//! # use diesel_async::RunQueryDsl;
//! # async fn example(db: &Db) -> Result<i64, DbError> {
//! # diesel::table! { note (id) { id -> BigInt, text -> Text, } }
//! use diesel::QueryDsl;
//! db.run("count notes", async |connection| on!(connection, |c| note::table.count().get_result(c).await)).await
//! # }
//! ```
//!
//! Rooms: `connect` opens connections (TLS, the wire), `account` is the user to log in as and its rotation, `pool` lends
//! connections, `work` runs queries and transactions for [`Db`], [`ModuleDb`] and tenants, `statement` observes
//! statements, `monitor` checks the database in parallel with the traffic, `file` checks and copies the SQLite file,
//! `journal` keeps the runtime journal; [`mod@migrations`], [`types`], [`sealing`] and [`idempotency`] are what
//! services use.

mod account;
mod actor;
#[doc(hidden)]
pub mod authentication;
mod clock;
mod config;
mod connect;
mod connection;
mod error;
mod file;
pub mod idempotency;
mod instruments;
mod journal;
mod lease;
mod listen;
mod macros;
pub mod migrations;
mod monitor;
mod pool;
mod reason;
pub mod records;
mod runtime;
mod schema;
pub mod sealing;
mod sqlstate;
mod statement;
pub mod types;
mod work;

pub use account::{Account, AccountObserver, Credentials, Offer};
pub use actor::DbActor;
pub use config::{ClientCert, Config, MigrateMode, PoolSize, Postgres, SslMode, Target};
pub use connection::{Blocking, Connection};
pub use error::{DbError, OpenError, OptionalExtension};
pub use file::{BackupError, Integrity, SqliteFile, backup, check_integrity};
pub use journal::{Journal, JournalEntry, JournalQuery, read_journal};
pub use lease::{Held, Lease};
pub use listen::Listener;
pub use macros::ROWS_AT_ONCE;
pub use migrations::{Migrations, MigrationsError, Scripts};
pub use monitor::{Role, look};
pub use pool::{Loan, ModuleLoad, Pool, PoolStatus, Share, module_loads};
pub use reason::*;
pub use sqlstate::SqlState;
pub use statement::{Prepared, prepared};
pub use work::{
    AcrossTx, Actor, Arguments, Db, Isolation, ModuleDb, Querying, Retry, RowWithCommit, Tenant,
    TenantDb, TenantId, TenantScope, TenantTx, Tx, Work,
};

/// The expansion of [`migrations!`].
#[doc(hidden)]
pub mod embedding {
    pub use diesel_migrations;
}
