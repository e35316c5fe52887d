//! Errors of services: each with the answer that a client gets, documented before it happens.

use std::{borrow::Cow, error::Error};

use actix_web::http::StatusCode;
use dotmac_db::DbError;

use crate::http::Problem;

/// One kind of problem that a request can be answered with, as clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProblemType {
    /// The status, from 400 to 599.
    pub status: u16,
    /// The word for programs: stable, lower case, joined by `_`.
    pub code: &'static str,
    /// The sentence for people.
    pub description: &'static str,
}

impl ProblemType {
    /// A problem by its status, code and sentence.
    #[must_use]
    pub const fn new(status: u16, code: &'static str, description: &'static str) -> Self {
        Self {
            status,
            code,
            description,
        }
    }

    /// The problem that is sent.
    #[must_use]
    pub fn problem(&self) -> Problem {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Problem::new(status)
            .detail(Cow::Borrowed(self.description))
            .code(self.code)
    }
}

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
    /// Every problem of its own that it can become. What the platform answers for anybody (500, 503) need not be here.
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
