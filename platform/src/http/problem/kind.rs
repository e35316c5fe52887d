//! Kinds of problems, documented before they happen.

use std::borrow::Cow;

use actix_web::http::StatusCode;

use super::Problem;

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
