//! What can go wrong with events, and what clients are told.

use dotmac_platform::{
    db::DbError,
    events::{EmitError, MAX_DATA},
    http::Problem,
    routing::{ApiError, ProblemType},
};

const NOT_FOUND: ProblemType = ProblemType::new(404, "event_not_found", "there is no such event");
const NO_SUBSCRIBER: ProblemType =
    ProblemType::new(404, "subscriber_not_found", "there is no such subscriber");
const EXPIRED: ProblemType = ProblemType::new(
    410,
    "events_expired",
    "events behind `after` are older than events are kept; without `after` the list begins with the oldest that is there",
);
const TOO_LARGE: ProblemType = ProblemType::new(
    413,
    "event_too_large",
    "the data of an event may have 65536 bytes of JSON",
);
const INVALID: ProblemType = ProblemType::new(422, "validation", "some values are not acceptable");
const INVALID_QUERY: ProblemType =
    ProblemType::new(400, "invalid_query", "the query cannot be understood");

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
    #[error("events behind that place are older than events are kept")]
    Expired,
    /// A parameter of the query is not understood.
    #[error("the parameter `{field}` {problem}")]
    Query {
        /// The parameter.
        field: &'static str,
        /// What is wrong, and what would be right.
        problem: &'static str,
    },
    /// The cursor is not one of the list.
    #[error("the cursor is not one of this list")]
    Cursor(Problem),
    /// Fields of a body whose values are not acceptable.
    #[error("some values are not acceptable")]
    Invalid(Vec<(&'static str, String)>),
    /// The log does not take the event.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// The database did not do it.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl ApiError for EventsError {
    const PROBLEMS: &'static [ProblemType] = &[
        INVALID_QUERY,
        NOT_FOUND,
        NO_SUBSCRIBER,
        EXPIRED,
        TOO_LARGE,
        INVALID,
    ];

    fn into_problem(self) -> Problem {
        match self {
            Self::NotFound => NOT_FOUND.problem(),
            Self::NoSubscriber => NO_SUBSCRIBER.problem(),
            Self::Expired => EXPIRED.problem(),
            Self::Query { field, problem } => INVALID_QUERY.problem().field_error(field, problem),
            Self::Cursor(problem) => problem,
            Self::Invalid(fields) => {
                let problem = INVALID.problem();
                fields
                    .into_iter()
                    .fold(problem, |it, (field, text)| it.field_error(field, text))
            }
            Self::Emit(EmitError::TooLarge { bytes, .. }) => TOO_LARGE.problem().field_error(
                "data",
                format!("has {bytes} bytes of JSON; {MAX_DATA} are allowed"),
            ),
            Self::Emit(error) => DbError::from(error).into(),
            Self::Db(error) => error.into(),
        }
    }
}
