//! Errors of services: each with the answer that a client gets, documented before it happens.

use std::error::Error;

use dotmac_db::DbError;

use crate::http::{Problem, ProblemType};

/// An error of a service that handlers return.
///
/// ```
/// use dotmac_platform::{db::DbError, http::Problem, routing::{ProblemType, ApiError}};
///
/// const NOT_FOUND: ProblemType = ProblemType::new(404, "note_not_found", "there is no such note");
///
/// #[derive(Debug, thiserror::Error)]
/// enum NotesError {
///     #[error("there is no such note")]
///     NotFound,
///     #[error(transparent)]
///     Db(#[from] DbError),
/// }
///
/// impl ApiError for NotesError {
///     const PROBLEMS: &'static [ProblemType] = &[NOT_FOUND];
///
///     fn into_problem(self) -> Problem {
///         match self {
///             Self::NotFound => NOT_FOUND.problem(),
///             Self::Db(error) => error.into(),
///         }
///     }
/// }
/// ```
pub trait ApiError: Error + 'static {
    /// Every problem of its own that it can become. What the platform answers by itself (500, 503) need not be here.
    const PROBLEMS: &'static [ProblemType];

    /// The answer for this one.
    fn into_problem(self) -> Problem;
}

impl ApiError for DbError {
    const PROBLEMS: &'static [ProblemType] = &[];

    fn into_problem(self) -> Problem {
        self.into()
    }
}

impl ApiError for Problem {
    const PROBLEMS: &'static [ProblemType] = &[];

    fn into_problem(self) -> Problem {
        self
    }
}
