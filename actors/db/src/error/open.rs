//! Errors of opening, migrating and checking a database.

use std::{path::PathBuf, time::Duration};

use diesel::result::Error as QueryError;
use dotmac_supervision::Reason;
use tokio_postgres::error::SqlState as ServerState;

use crate::{
    MigrationsError,
    reason::{
        AUTHENTICATION_FAILED, CREDENTIALS_MISSING, DATABASE_MISSING, DISK_FULL, LOCKED, MIGRATING,
        MIGRATION_FAILED, MIGRATION_PENDING, NO_DESCRIPTORS, NOT_ACCEPTING, READ_ONLY,
        SCHEMA_NEWER, TLS_FAILED, TOO_MANY_CONNECTIONS, UNUSABLE_FILE,
    },
};

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
