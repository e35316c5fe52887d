//! The answers to errors of actors, the database and sealing.

use std::time::Duration;

use actix_web::http::StatusCode;
use dotmac_db::{DbError, sealing::SealingError};
use dotmac_supervision::CallError;

use super::Problem;

/// Keys come with the secrets, which are read again meanwhile.
const NO_KEY_RETRY: Duration = Duration::from_secs(5);

/// An actor that does not answer is not the client's fault, and asking again later is right.
impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        let (code, detail) = match &error {
            CallError::Down { .. } | CallError::Lost { .. } => (
                "component_unavailable",
                "a component that this request needs is not available",
            ),
            CallError::Timeout { .. } => (
                "timeout",
                "a component that this request needs did not answer in time",
            ),
            CallError::Busy { .. } => (
                "overloaded",
                "too many requests are waiting for the same component",
            ),
        };
        Self::unavailable(detail, error.retry_after())
            .code(code)
            .caused_by(error)
    }
}

impl From<SealingError> for Problem {
    fn from(error: SealingError) -> Self {
        match error {
            SealingError::NoKey { .. } => {
                Self::unavailable("the server has no key for its secrets", NO_KEY_RETRY)
                    .caused_by(error)
            }
            _ => Self::internal(error),
        }
    }
}

impl From<DbError> for Problem {
    fn from(error: DbError) -> Self {
        match error {
            DbError::InvalidData(_) => {
                return Self::invalid("a value of this request cannot be stored")
                    .code("invalid_value")
                    .caused_by(error);
            }
            // Not 503 with `Retry-After`: that would have it done twice.
            DbError::OutcomeUnknown(_) | DbError::FileChanged(_) => {
                return Self::new(StatusCode::GATEWAY_TIMEOUT)
                    .detail("the database was lost during this request; it may have been executed")
                    .code("outcome_unknown")
                    .caused_by(error);
            }
            _ => {}
        }
        let Some(retry_after) = error.retry_after() else {
            return Self::internal(error);
        };
        let (code, detail) = match &error {
            DbError::PoolExhausted { .. } => (
                "overloaded",
                "too many requests are waiting for the database",
            ),
            DbError::Conflict(_) => (
                "conflict",
                "another request changed the same data at the same time",
            ),
            DbError::TimedOut(_) => ("timeout", "the database did not answer in time"),
            _ => ("component_unavailable", "the database is not available"),
        };
        let problem = Self::unavailable(detail, retry_after).code(code);
        match error {
            // It says no more than the detail.
            DbError::Unavailable { .. } => problem,
            error => problem.caused_by(error),
        }
    }
}
