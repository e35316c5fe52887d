//! Errors of the audit log, and the answers to clients.

use dotmac_platform::{
    audit::AuditError,
    db::DbError,
    http::Problem,
    routing::{ApiError, InvalidRequest, ProblemType},
};

const NOT_FOUND: ProblemType = ProblemType::new(
    404,
    "audit_event_not_found",
    "no such entry of the audit log",
);

/// Why something cannot be done with the audit log.
#[derive(Debug, thiserror::Error)]
pub enum AuditLogError {
    /// No entry of that id belongs to the tenant, or it is not in the chain yet.
    #[error("no such entry of the audit log")]
    NotFound,
    /// Values of the request are not acceptable.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// That the log is read was not recorded, so it is not read.
    #[error(transparent)]
    Record(#[from] AuditError),
    /// The database did not do it.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl ApiError for AuditLogError {
    const PROBLEMS: &'static [ProblemType] = &[NOT_FOUND];

    fn into_problem(self) -> Problem {
        match self {
            Self::NotFound => NOT_FOUND.problem(),
            Self::Invalid(error) => error.into(),
            Self::Record(error) => DbError::from(error).into(),
            Self::Db(error) => error.into(),
        }
    }
}
