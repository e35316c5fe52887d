//! Errors of events, and the answers to clients.

use dotmac_platform::{
    audit::AuditError,
    db::DbError,
    events::{EmitError, MAX_DATA, RewindError},
    http::Problem,
    routing::{ApiError, InvalidRequest, ProblemType},
};

const NOT_FOUND: ProblemType = ProblemType::new(404, "event_not_found", "there is no such event");
const NO_SUBSCRIBER: ProblemType =
    ProblemType::new(404, "subscriber_not_found", "there is no such subscriber");
const EXPIRED: ProblemType = ProblemType::new(
    410,
    "events_expired",
    "events after `after` passed the retention; without `after` the list begins with the oldest event",
);
const TOO_LARGE: ProblemType = ProblemType::new(
    413,
    "event_too_large",
    "the data of an event may have 65536 bytes of JSON",
);

/// Why something cannot be done with events.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// No event of that id belongs to the tenant.
    #[error("there is no such event")]
    NotFound,
    /// No subscriber has that name.
    #[error("there is no such subscriber")]
    NoSubscriber,
    /// Events that the reader has not seen are gone.
    #[error("events after that position passed the retention")]
    Expired,
    /// Values of the request are not acceptable.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// The log does not take the event.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// It was not recorded in the audit log, so it was not done.
    #[error(transparent)]
    Record(#[from] AuditError),
    /// The database did not do it.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<RewindError> for EventsError {
    fn from(error: RewindError) -> Self {
        match error {
            RewindError::NoSubscriber => Self::NoSubscriber,
            RewindError::Beyond { newest } => {
                let right = format!("is beyond the end of the log, whose newest event is {newest}");
                Self::Invalid(InvalidRequest::fields([("to", right)]))
            }
            RewindError::Db(error) => Self::Db(error),
        }
    }
}

impl ApiError for EventsError {
    const PROBLEMS: &'static [ProblemType] = &[NOT_FOUND, NO_SUBSCRIBER, EXPIRED, TOO_LARGE];

    fn into_problem(self) -> Problem {
        match self {
            Self::NotFound => NOT_FOUND.problem(),
            Self::NoSubscriber => NO_SUBSCRIBER.problem(),
            Self::Expired => EXPIRED.problem(),
            Self::Invalid(error) => error.into(),
            Self::Emit(EmitError::TooLarge { bytes, .. }) => TOO_LARGE.problem().field_error(
                "data",
                format!("has {bytes} bytes of JSON; {MAX_DATA} are allowed"),
            ),
            Self::Emit(error) => DbError::from(error).into(),
            Self::Record(error) => DbError::from(error).into(),
            Self::Db(error) => error.into(),
        }
    }
}
