//! Errors of work on the database.

use std::time::Duration;

use diesel::result::{DatabaseErrorKind, Error as QueryError};
use dotmac_supervision::Reason;

use super::OpenError;
use crate::{
    SqlState,
    monitor::ConnectionState,
    reason::{DISK_FULL, LOCKED, POOL_EXHAUSTED, READ_ONLY, SLOW},
};

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
    pub(crate) fn classify(
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
            // The kind is exact, and the state of the connection may be that of an earlier error.
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

/// Turns a missing row into `None`: diesel's trait of that name, for results of [`on!`](crate::on).
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
