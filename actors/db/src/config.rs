//! The configuration of the database actor.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{Credentials, Migrations, SqliteFile};

/// Which database, and how to use it.
#[derive(Clone)]
pub struct Config {
    /// Where it is.
    pub target: Target,
    /// Connections at the most.
    pub pool_size: PoolSize,
    /// Connections kept open even if they are idle; at most `pool_size`.
    pub min_idle: usize,
    /// Longest wait for a free connection.
    pub pool_timeout: Duration,
    /// Longest wait for a new connection.
    pub connect_timeout: Duration,
    /// After this long the server gives a statement up. Work outside of transactions that takes twice as long in all loses
    /// its connection.
    pub statement_timeout: Duration,
    /// Work in a transaction that takes this long loses its connection, if that is sooner: an old one keeps dead rows from
    /// being removed. The server gives up any statement after nine tenths of it, and an idle transaction after it.
    pub transaction_timeout: Duration,
    /// After this long a statement, also one of a migration, gives up waiting for a lock.
    pub lock_timeout: Duration,
    /// A transaction that does nothing for this long is ended by the server.
    pub idle_in_transaction_timeout: Duration,
    /// A connection older than this is replaced, up to 15 % earlier so that not all are at once.
    pub max_lifetime: Duration,
    /// Work that takes longer is logged.
    pub slow_query: Duration,
    /// The handling of missing migrations.
    pub migrate: MigrateMode,
    /// The migrations of all owners of tables.
    pub migrations: Vec<Migrations>,
    /// Shown to the server as the name of the connections' owner.
    pub application_name: String,
    /// Called with the runtime of all database work once it runs, so that its figures can be shown.
    pub observe_runtime: Option<fn(&tokio::runtime::Handle)>,
}

/// How many connections there may be. Clones are the same number, so that it can be changed while the pool
/// is in use: [`Db::resize`](super::Db::resize).
#[derive(Clone, Debug)]
pub struct PoolSize(Arc<AtomicUsize>);

impl PoolSize {
    /// That many, at least 1.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(size.max(1))))
    }

    /// The number now.
    #[must_use]
    pub fn get(&self) -> usize {
        self.0.load(Relaxed)
    }

    pub(super) fn set(&self, size: usize) {
        self.0.store(size.max(1), Relaxed);
    }
}

/// Where the database is.
#[derive(Clone)]
pub enum Target {
    /// A file, made if it is not there.
    Sqlite(SqliteFile),
    /// A server.
    Postgres(Postgres),
}

/// How to reach a PostgreSQL server.
#[derive(Clone)]
pub struct Postgres {
    /// Name, address, or directory of a socket.
    pub host: String,
    /// Usually 5432.
    pub port: u16,
    /// The database's name.
    pub database: String,
    /// Whom to log in as, now and later.
    pub credentials: Credentials,
    /// How far to trust the wire.
    pub ssl_mode: SslMode,
    /// PEM file with the authorities to trust; the system's if absent.
    pub ca_cert: Option<PathBuf>,
    /// The certificate by which we prove who we are, if the server asks.
    pub client_cert: Option<ClientCert>,
}

/// A certificate of our own, in PEM files.
#[derive(Clone, Debug)]
pub struct ClientCert {
    /// The certificate, and those between it and its authority.
    pub certificates: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// `sslmode` with the meaning that libpq gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS if that works, else in the clear. Without proof of who it is.
    Prefer,
    /// TLS or nothing. Without proof of who it is, unless authorities to trust are given: then as `VerifyCa`.
    Require,
    /// TLS with a certificate of a trusted authority, for any name.
    VerifyCa,
    /// TLS with a certificate of a trusted authority for the host that was asked for.
    VerifyFull,
}

impl SslMode {
    /// Whether a connection never goes on in the clear.
    #[must_use]
    pub const fn is_encrypted(self) -> bool {
        !matches!(self, Self::Disable | Self::Prefer)
    }

    /// The word that libpq has for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

impl fmt::Display for SslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The handling of migrations that the database lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrateMode {
    /// Run them, one process at a time.
    Auto,
    /// Run nothing, and do not start unless all have run that this program knows, and no others but compatible
    /// ones.
    Check,
    /// Do not look.
    Off,
}

impl Config {
    /// The longest that one piece of work outside of transactions may keep a connection.
    pub(super) fn work_limit(&self) -> Duration {
        self.statement_timeout * 2
    }

    /// The same for work in a transaction.
    pub(super) fn transaction_limit(&self) -> Duration {
        self.work_limit().min(self.transaction_timeout)
    }

    /// When PostgreSQL gives a statement up: before its transaction is, so that the error is that of the statement.
    pub(super) fn server_limit(&self) -> Duration {
        let of_transaction = self.transaction_timeout.mul_f64(0.9);
        // In milliseconds, of which 0 is no limit.
        let shortest = Duration::from_millis(1);
        self.statement_timeout.min(of_transaction).max(shortest)
    }
}

impl Target {
    /// "sqlite" or "postgresql", as OpenTelemetry names them.
    #[must_use]
    pub const fn system(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgresql",
        }
    }
}

/// For logs: where, never with what credentials.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(file) => write!(f, "sqlite:{}", file.path().display()),
            Self::Postgres(Postgres {
                host,
                port,
                database,
                ..
            }) => write!(f, "postgresql://{host}:{port}/{database}"),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("target", &self.target)
            .field("pool_size", &self.pool_size)
            .finish_non_exhaustive()
    }
}
