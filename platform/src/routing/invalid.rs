//! What a rule of a service refuses in a request, by the fields at fault.

use std::{borrow::Cow, fmt};

use super::{ProblemType, page, query, valid};
use crate::http::{FieldError, Problem};

/// A request whose values are not acceptable. An error of a service has it as one of its variants, and need not list its
/// problems: they are those of the handler's [`Query`](super::Query), [`Paging`](super::Paging) and [`Valid`](super::Valid).
#[derive(Clone, Debug)]
pub struct InvalidRequest {
    problem: ProblemType,
    fields: Vec<FieldError>,
}

impl InvalidRequest {
    /// 400 `invalid_query`: the value of a parameter is not understood. `problem` goes on after the parameter's name:
    /// "is a whole number from 1 to 200".
    pub fn query(parameter: &'static str, problem: impl Into<Cow<'static, str>>) -> Self {
        Self {
            problem: query::INVALID,
            fields: vec![invalid(parameter, problem)],
        }
    }

    /// 422 `validation`: fields of the body, each with what would be right, as in [`query`](Self::query).
    pub fn fields(fields: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let fields = fields.into_iter();
        Self {
            problem: valid::INVALID,
            fields: fields.map(|(name, text)| invalid(name, text)).collect(),
        }
    }

    /// 422 `validation`: a field of the body, with its own code for programs (`password_common`).
    pub fn field(
        name: &'static str,
        code: &'static str,
        problem: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            problem: valid::INVALID,
            fields: vec![FieldError::new(name, code, problem)],
        }
    }

    /// 400 `invalid_cursor`: what `parameter` has is no cursor of this list.
    pub(super) fn cursor(parameter: &'static str) -> Self {
        Self {
            problem: page::INVALID,
            fields: vec![invalid(parameter, "is not one of this list")],
        }
    }
}

fn invalid(name: &'static str, problem: impl Into<Cow<'static, str>>) -> FieldError {
    FieldError::new(name, "invalid", problem)
}

impl fmt::Display for InvalidRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.fields.iter();
        let fields: Vec<_> = fields
            .map(|it| format!("`{}` {}", it.field, it.message))
            .collect();
        f.write_str(&fields.join("; "))
    }
}

impl std::error::Error for InvalidRequest {}

impl From<InvalidRequest> for Problem {
    fn from(invalid: InvalidRequest) -> Self {
        let fields = invalid.fields.into_iter();
        fields.fold(invalid.problem.problem(), Problem::field)
    }
}
