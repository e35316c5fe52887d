//! The database: one actor that keeps it usable, one handle through which everybody queries it.
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
pub mod migrations;
mod monitor;
mod pool;
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
pub use connection::{Blocking, Connection, ROWS_AT_ONCE};
pub use error::{DbError, OpenError, OptionalExtension};
pub use file::{BackupError, Integrity, SqliteFile, backup, check_integrity};
pub use instruments::module_loads;
pub use journal::{Journal, JournalEntry, JournalQuery, read_journal};
pub use lease::{Held, Lease};
pub use listen::Listener;
pub use migrations::{Migrations, MigrationsError, Scripts};
pub use monitor::look;
pub use pool::{Loan, ModuleLoad, Pool, PoolStatus, Share};
pub use sqlstate::SqlState;
pub use statement::{Prepared, prepared};
pub use work::{
    AcrossTx, Actor, Db, Isolation, ModuleDb, Querying, Retry, Tenant, TenantDb, TenantId,
    TenantScope, TenantTx, Tx, Work,
};

use dotmac_supervision::Reason;

/// The expansion of [`migrations!`].
#[doc(hidden)]
pub mod embedding {
    pub use diesel_migrations;
}

/// The server refused the user or the password.
pub const AUTHENTICATION_FAILED: Reason = Reason::new("authentication_failed");
/// The server refuses the user that is to come next; the former one stays in use.
pub const CREDENTIALS_REFUSED: Reason = Reason::new("credentials_refused");
/// No account is known yet.
pub const CREDENTIALS_MISSING: Reason = Reason::new("credentials_missing");
/// The server does not prove to be the one that was asked for.
pub const TLS_FAILED: Reason = Reason::new("tls_failed");
/// There is no database of that name.
pub const DATABASE_MISSING: Reason = Reason::new("database_missing");
/// It answers, but takes no writes.
pub const READ_ONLY: Reason = Reason::new("read_only");
/// The schema is being brought up to date, here or by another replica.
pub const MIGRATING: Reason = Reason::new("migrating");
/// A migration did not go through; the schema is as it was before it.
pub const MIGRATION_FAILED: Reason = Reason::new("migration_failed");
/// The schema lacks migrations, and this process must not run them.
pub const MIGRATION_PENDING: Reason = Reason::new("migration_pending");
/// The file cannot be opened or is no database.
pub const UNUSABLE_FILE: Reason = Reason::new("unusable_file");
/// The process may not open another file or socket.
pub const NO_DESCRIPTORS: Reason = Reason::new("no_descriptors");
/// Work met data that is damaged, on the disk or in an index. The rest still does its work.
pub const DATA_CORRUPTED: Reason = Reason::new("data_corrupted");
/// Other work holds the locks that ours needs.
pub const LOCKED: Reason = Reason::new("locked");
/// No space is left for the database.
pub const DISK_FULL: Reason = Reason::new("disk_full");
/// Work waits in vain for a free connection.
pub const POOL_EXHAUSTED: Reason = Reason::new("pool_exhausted");
/// Work blocks threads of the database.
pub const WORK_BLOCKED: Reason = Reason::new("work_blocked");
/// It answers, late.
pub const SLOW: Reason = Reason::new("slow");
/// The server is starting, stopping or recovering.
pub const NOT_ACCEPTING: Reason = Reason::new("not_accepting");
/// The schema has changes that this program does not know and that are not marked as compatible.
pub const SCHEMA_NEWER: Reason = Reason::new("schema_newer");
/// The server refuses further connections.
pub const TOO_MANY_CONNECTIONS: Reason = Reason::new("too_many_connections");
