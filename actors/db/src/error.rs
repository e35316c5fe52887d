//! Errors of a database, classified by remedy.

use std::{path::PathBuf, time::Duration};

use diesel::result::{DatabaseErrorKind, Error as QueryError};
use tokio_postgres::error::SqlState as ServerState;

use super::{
    AUTHENTICATION_FAILED, CREDENTIALS_MISSING, DATABASE_MISSING, DISK_FULL, LOCKED, MIGRATING,
    MIGRATION_FAILED, MIGRATION_PENDING, MigrationsError, NO_DESCRIPTORS, NOT_ACCEPTING,
    POOL_EXHAUSTED, READ_ONLY, SCHEMA_NEWER, SLOW, SqlState, TLS_FAILED, TOO_MANY_CONNECTIONS,
    UNUSABLE_FILE, monitor::ConnectionState,
};
use dotmac_supervision::Reason;

/// Why work on the database did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// There is no usable database now; nothing was tried.
    #[error("the database is not available")]
    Unavailable {
        /// When another try may succeed.
        retry_after: Duration,
    },
    /// No connection became free within the pool's time-out; nothing was tried.
    #[error("{} within {waited:?}", exhausted(*module))]
    PoolExhausted {
        /// How long it waited.
        waited: Duration,
        /// The module that used its whole share, if that was the limit; else the whole pool was in use.
        module: Option<&'static str>,
    },
    /// A connection could not be opened.
    #[error("failed to open a database connection")]
    Connect(#[source] OpenError),
    /// The database refused or did not understand the query.
    #[error("failed to query the database")]
    Query(#[from] QueryError),
    /// A value that was sent is none that the database can take (SQLSTATE class 22): out of range, too long, or a
    /// text with a NUL. Sending the same again fails again.
    #[error("the database cannot store a value of the query")]
    InvalidData(#[source] QueryError),
    /// Another transaction was in the way: a serialisation failure, a deadlock, or on SQLite a lock that was
    /// not given in time. Nothing was changed; the same may succeed if it is run again.
    #[error("conflict with a concurrent transaction")]
    Conflict(#[source] QueryError),
    /// The connection ended in the middle of the work, of which nothing is left: it only read, or its transaction
    /// was not committed.
    #[error("the connection to the database was lost")]
    ConnectionLost(#[source] QueryError),
    /// The connection ended while a commit, or work without a transaction, was under way: it may have been executed, or
    /// not, and running it again may do it twice.
    #[error("the connection to the database was lost while a change was under way")]
    OutcomeUnknown(#[source] QueryError),
    /// The database takes no writes, or not those of this work.
    #[error("the database is read-only")]
    ReadOnly(#[source] QueryError),
    /// The database has no space left.
    #[error("the database's disk is full")]
    DiskFull(#[source] QueryError),
    /// The server gave a statement up, because it or a lock that it needed took too long.
    #[error("a statement took too long")]
    TimedOut(#[source] QueryError),
    /// The SQLite file was deleted, replaced or overwritten while it was open. What this work wrote may be lost with
    /// it.
    #[error("the database file was changed from outside")]
    FileChanged(#[source] OpenError),
    /// The work took too long; its connection was closed, so an open transaction was rolled back.
    #[error("database work `{operation}` was given up after {limit:?}")]
    Overran {
        /// The work's name.
        operation: &'static str,
        /// How long it may take.
        limit: Duration,
    },
    /// The work panicked; its connection was closed, so an open transaction was rolled back.
    #[error("database work `{operation}` panicked: {message}")]
    Panicked {
        /// The work's name.
        operation: &'static str,
        /// The text of the panic.
        message: String,
    },
}

fn exhausted(module: Option<&str>) -> String {
    match module {
        Some(module) => {
            format!(
                "module `{module}` uses its whole share of the database connections, and none became free"
            )
        }
        None => "no database connection became free".to_owned(),
    }
}

impl DbError {
    /// Whether a rule of the schema said that such a row exists already.
    #[must_use]
    pub fn is_unique_violation(&self) -> bool {
        matches!(
            self,
            Self::Query(QueryError::DatabaseError(
                DatabaseErrorKind::UniqueViolation,
                _
            ))
        )
    }

    /// Whether the row that was asked for is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Query(QueryError::NotFound))
    }

    /// Why it does not do its work now, if another try may succeed.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Connect(error) | Self::FileChanged(error) => Some(error.reason()),
            Self::PoolExhausted { .. } => Some(POOL_EXHAUSTED),
            Self::Conflict(_) => Some(LOCKED),
            Self::ReadOnly(_) => Some(READ_ONLY),
            Self::DiskFull(_) => Some(DISK_FULL),
            Self::TimedOut(_) => Some(SLOW),
            _ => self.retry_after().map(|_| Reason::UNREACHABLE),
        }
    }

    /// When another try may succeed, if it may.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after } => Some((*retry_after).max(Duration::from_secs(1))),
            Self::PoolExhausted { .. }
            | Self::Connect(_)
            | Self::Conflict(_)
            | Self::ConnectionLost(_)
            | Self::ReadOnly(_)
            | Self::DiskFull(_)
            | Self::TimedOut(_) => Some(Duration::from_secs(1)),
            Self::Query(_)
            | Self::InvalidData(_)
            | Self::OutcomeUnknown(_)
            | Self::FileChanged(_)
            | Self::Overran { .. }
            | Self::Panicked { .. } => None,
        }
    }
}

impl DbError {
    /// The error of a query on the connection whose state `connection_state` is, classified by the observations of that
    /// connection.
    pub(super) fn classify(
        source: QueryError,
        connection_state: &ConnectionState,
        is_sqlite: bool,
    ) -> Self {
        let QueryError::DatabaseError(kind, _) = &source else {
            if !matches!(source, QueryError::NotFound) {
                connection_state.note_failure();
            }
            return Self::Query(source);
        };
        connection_state.note_failure();
        let state = if is_sqlite {
            let state = SqlState::of_sqlite(&source);
            // diesel reports no error that comes with SQLite's rows.
            let unheard = state.filter(|state| connection_state.last() != Some(*state));
            unheard
                .into_iter()
                .for_each(|state| connection_state.heard(state));
            state
        } else {
            connection_state.last()
        };
        let is_unsent = match kind {
            // These say all there is to say, and the line may still have an earlier error on it.
            DatabaseErrorKind::UniqueViolation
            | DatabaseErrorKind::ForeignKeyViolation
            | DatabaseErrorKind::NotNullViolation
            | DatabaseErrorKind::CheckViolation
            | DatabaseErrorKind::RestrictViolation
            | DatabaseErrorKind::ExclusionViolation => return Self::Query(source),
            DatabaseErrorKind::UnableToSendCommand | DatabaseErrorKind::ClosedConnection => true,
            _ => false,
        };
        match state {
            _ if connection_state.is_cut() => Self::lost(source, connection_state),
            Some(state) if state.is_disconnection() => Self::lost(source, connection_state),
            Some(state) if state.is_conflict() => Self::conflict(source, connection_state),
            Some(state) if state.is_data_exception() => Self::InvalidData(source),
            Some(SqlState::READ_ONLY) => Self::ReadOnly(source),
            Some(SqlState::DISK_FULL) => Self::DiskFull(source),
            Some(SqlState::QUERY_CANCELED) => Self::TimedOut(source),
            Some(SqlState::LOCK_NOT_AVAILABLE) if is_sqlite => {
                Self::conflict(source, connection_state)
            }
            Some(SqlState::LOCK_NOT_AVAILABLE) => Self::TimedOut(source),
            None if is_unsent => Self::lost(source, connection_state),
            _ => Self::Query(source),
        }
    }

    fn lost(source: QueryError, connection_state: &ConnectionState) -> Self {
        if connection_state.may_be_carried_out() {
            Self::OutcomeUnknown(source)
        } else {
            Self::ConnectionLost(source)
        }
    }

    fn conflict(source: QueryError, connection_state: &ConnectionState) -> Self {
        connection_state.note_conflict();
        Self::Conflict(source)
    }
}

/// Of a row that is not there, what is there of it: nothing. As diesel's trait of that name, for what
/// [`on!`](crate::on) gives.
pub trait OptionalExtension<T> {
    /// `None` where there is no such row.
    ///
    /// # Errors
    ///
    /// Any other.
    fn optional(self) -> Result<Option<T>, DbError>;
}

impl<T> OptionalExtension<T> for Result<T, DbError> {
    fn optional(self) -> Result<Option<T>, DbError> {
        match self {
            Ok(row) => Ok(Some(row)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Why a database could not be opened, migrated or checked. Never contains credentials.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file of a SQLite database.
    #[error("cannot use `{}` as a SQLite database: {problem}; {remedy}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of SQLite.
        problem: String,
        /// The remedy.
        remedy: &'static str,
        /// Whether waiting may be all that is needed.
        transient: bool,
    },
    /// The file of a SQLite database is not the one that was opened.
    #[error("`{}` {what}", path.display())]
    FileChanged {
        /// The file.
        path: PathBuf,
        /// The change, and the remedy.
        what: String,
    },
    /// The server was not reached.
    #[error("cannot connect to {target}")]
    Unreached {
        /// Host, port and database.
        target: String,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// The server was reached and said no.
    #[error("cannot connect to {target}")]
    Server {
        /// Host, port and database.
        target: String,
        /// The error of the client.
        #[source]
        source: tokio_postgres::Error,
    },
    /// There is nothing to log in with; the word says why.
    #[error("no user to log in with ({0})")]
    NoAccount(Reason),
    /// The server's socket on this machine could not be reached.
    #[error("cannot connect to the socket `{path}`")]
    Socket {
        /// The socket.
        path: String,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// The process has as many files and sockets open as it may.
    #[error(
        "cannot open {target}: this process may not open another file; raise its limit (`LimitNOFILE`, \
         `ulimit -n`), or lower DOTMAC_HTTP_MAX_CONNECTIONS"
    )]
    NoDescriptors {
        /// Host, port and database, or the file.
        target: String,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// Nothing came of it in time.
    #[error("{what} got no answer from {target} within {limit:?}")]
    Timeout {
        /// The operation.
        what: &'static str,
        /// Host, port and database, or the file.
        target: String,
        /// How long it may take.
        limit: Duration,
    },
    /// The authorities to trust could not be loaded, or the certificate is not of theirs.
    #[error("cannot set up TLS for {target}: {problem}")]
    Tls {
        /// Host, port and database.
        target: String,
        /// The problem.
        problem: String,
    },
    /// A query of the actor's own failed.
    #[error("{what} failed")]
    Query {
        /// The operation.
        what: &'static str,
        /// The error of the database.
        #[source]
        source: QueryError,
    },
    /// The database takes no writes.
    #[error("{target} is read-only")]
    ReadOnly {
        /// Host, port and database, or the file.
        target: String,
    },
    /// The user that connections are logged in as has been removed; they are still open, and may do nothing.
    #[error("the user of this process at {target} was removed")]
    UserGone {
        /// Host, port and database.
        target: String,
    },
    /// The database has no space left.
    #[error("the disk of {target} is full")]
    DiskFull {
        /// Host, port and database, or the file.
        target: String,
    },
    /// A migration did not go through.
    #[error("migration failed and was rolled back: {0}")]
    Migration(String),
    /// Migrations cannot be taken back; none was.
    #[error("cannot revert migrations: {0}")]
    NotTakenBack(String),
    /// A migration did not get the locks that it needs, and let go of those it had.
    #[error("a migration gave way to other work on its tables: {0}")]
    MigrationGaveWay(String),
    /// Other sessions hold a lock on the table of migrations, so that it cannot be read.
    #[error("the table of migrations is locked by {holders}; end that session's transaction")]
    SchemaLocked {
        /// The sessions' processes on the server, with the names of their programs.
        holders: String,
    },
    /// The program's migrations are not as they should be.
    #[error(transparent)]
    Migrations(#[from] MigrationsError),
    /// The schema lacks migrations, which this process must not run.
    #[error("the database lacks migrations: {0}; run `migrate up` with this program")]
    MigrationsPending(String),
    /// The schema has migrations that this program does not know and that are not marked as compatible.
    #[error(
        "the database has migrations that this program does not know and that are not marked as compatible: {versions}; \
         run the newer program, or revert them with it: {take_back}"
    )]
    SchemaNewer {
        /// Those migrations.
        versions: String,
        /// The commands of the newer program that take them back.
        take_back: String,
    },
    /// The pool or its runtime could not be built.
    #[error("cannot set up the database runtime: {0}")]
    Setup(String),
}

impl OpenError {
    /// The word for probes.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::File { problem, .. } if problem.contains("full") => DISK_FULL,
            Self::File { problem, .. } if problem.contains("locked") => LOCKED,
            Self::File { problem, .. } if problem.contains("readonly") => READ_ONLY,
            Self::File { .. } | Self::FileChanged { .. } => UNUSABLE_FILE,
            Self::Server { source, .. } => server_reason(source),
            Self::NoAccount(reason) => *reason,
            Self::NoDescriptors { .. } => NO_DESCRIPTORS,
            Self::Tls { .. } => TLS_FAILED,
            Self::ReadOnly { .. } => READ_ONLY,
            Self::UserGone { .. } => AUTHENTICATION_FAILED,
            Self::DiskFull { .. } => DISK_FULL,
            Self::Migration(_) | Self::Migrations(_) | Self::NotTakenBack(_) => MIGRATION_FAILED,
            Self::MigrationGaveWay(_) => MIGRATING,
            Self::SchemaLocked { .. } => LOCKED,
            Self::MigrationsPending(_) => MIGRATION_PENDING,
            Self::SchemaNewer { .. } => SCHEMA_NEWER,
            Self::Query { .. }
            | Self::Timeout { .. }
            | Self::Setup(_)
            | Self::Socket { .. }
            | Self::Unreached { .. } => Reason::UNREACHABLE,
        }
    }

    /// Whether a retry cannot succeed until an operator changes the file, the schema or the program. A database that
    /// gave no answer is never that, nor is a migration that failed: a new process would only run it again.
    #[must_use]
    pub const fn is_permanent(&self) -> bool {
        matches!(
            self,
            Self::File {
                transient: false,
                ..
            } | Self::Migrations(_)
                | Self::MigrationsPending(_)
                | Self::SchemaNewer { .. }
        )
    }
}

fn server_reason(error: &tokio_postgres::Error) -> Reason {
    let Some(state) = error.code() else {
        let cause = std::error::Error::source(error).map(ToString::to_string);
        return if error.to_string().contains("TLS") {
            TLS_FAILED
        } else if cause.as_deref() == Some("password missing") {
            // The server wants one and there is none yet: it may be on its way.
            CREDENTIALS_MISSING
        } else {
            Reason::UNREACHABLE
        };
    };
    match *state {
        ServerState::INVALID_PASSWORD | ServerState::INVALID_AUTHORIZATION_SPECIFICATION => {
            AUTHENTICATION_FAILED
        }
        ServerState::INVALID_CATALOG_NAME => DATABASE_MISSING,
        ServerState::TOO_MANY_CONNECTIONS => TOO_MANY_CONNECTIONS,
        ServerState::CANNOT_CONNECT_NOW | ServerState::ADMIN_SHUTDOWN => NOT_ACCEPTING,
        ServerState::DISK_FULL => DISK_FULL,
        _ => Reason::UNREACHABLE,
    }
}
