//! The query of a request, with each mistake under the name of its parameter.
//!
//! A handler's arguments say which parameters its route has. Any other one is refused before they are taken, so that a
//! misspelt filter is not taken for none.

use std::ops::Deref;

use actix_web::{FromRequest, HttpRequest, dev::Payload};
use serde::de::DeserializeOwned;
use url::form_urlencoded;
use utoipa::{IntoParams, openapi::path::ParameterIn};

use super::{Argument, Operation, ProblemType};
use crate::http::{FieldError, Problem};

/// Unknown parameters that are named in one answer.
const MOST_NAMED: usize = 16;

pub(super) const INVALID: ProblemType =
    ProblemType::new(400, "invalid_query", "the query is not valid");

/// The parameters in the query of a request, as a `T`. Derefs to it.
///
/// 400 `invalid_query` names the parameter that is missing, is no value of its type, or is given twice.
#[derive(Clone, Debug)]
pub struct Query<T>(pub T);

impl<T> Query<T> {
    /// The value.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Query<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: DeserializeOwned + 'static> FromRequest for Query<T> {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        std::future::ready(read(request.query_string()).map(Self))
    }
}

impl<T: DeserializeOwned + IntoParams + 'static> Argument for Query<T> {
    fn describe(operation: &mut Operation) {
        let parameters = T::into_params(|| Some(ParameterIn::Query));
        parameters
            .into_iter()
            .for_each(|parameter| operation.parameter(parameter));
        operation.problem(INVALID);
    }
}

/// Reads those of the parameters that are fields of `T`.
pub(super) fn read<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    let pairs = serde_urlencoded::Deserializer::new(pairs);
    serde_path_to_error::deserialize(pairs).map_err(|error| {
        let (place, message) = (error.path().to_string(), error.inner().to_string());
        let (field, code) = crate::http::field_at_fault(&place, &message);
        let field = field.unwrap_or_else(|| "query".to_owned());
        INVALID
            .problem()
            .field(FieldError::new(field, code, message))
    })
}

/// Refuses parameters that are not in `known`.
///
/// # Errors
///
/// 400 `invalid_query` that names them.
pub(super) fn refuse_unknown(query: &str, known: &[String]) -> Result<(), Problem> {
    if query.is_empty() {
        return Ok(());
    }
    let mut unknown: Vec<_> = form_urlencoded::parse(query.as_bytes())
        .map(|(name, _)| name)
        .filter(|name| !known.iter().any(|it| it == name))
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    unknown.sort();
    unknown.dedup();
    unknown.truncate(MOST_NAMED);
    let message = match known {
        [] => "unknown parameter; this route has none".to_owned(),
        known => format!("unknown parameter; this route has {}", known.join(", ")),
    };
    Err(unknown.into_iter().fold(INVALID.problem(), |problem, it| {
        let (name, code) = (it.into_owned(), "unknown_parameter");
        problem.field(FieldError::new(name, code, message.clone()))
    }))
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use serde::Deserialize;
    use serde_json::Value;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Filter {
        most: u32,
        is_open: Option<bool>,
    }

    fn errors(refused: Problem) -> Vec<(Value, Value)> {
        let problem: Value = serde_json::from_slice(&refused.body(None)).expect("JSON");
        assert_eq!(problem["code"], "invalid_query");
        let errors = problem["errors"].as_array().expect("errors").iter();
        errors
            .map(|it| (it["field"].clone(), it["code"].clone()))
            .collect()
    }

    #[test]
    fn a_mistake_is_named_by_its_parameter() {
        let read = read::<Filter>("most=3&is_open=true").expect("right");
        assert_eq!((read.most, read.is_open), (3, Some(true)));
        for (query, field, code) in [
            ("most=abc", "most", "invalid"),
            ("most=-1", "most", "invalid"),
            ("most=3&is_open=perhaps", "is_open", "invalid"),
            ("", "most", "missing_field"),
            ("most=3&most=4", "most", "duplicate_field"),
        ] {
            let refused = super::read::<Filter>(query).expect_err(query);
            assert_eq!(errors(refused), [(field.into(), code.into())], "{query}");
        }
    }

    #[test]
    fn parameters_that_a_route_does_not_have_are_named() {
        let known = ["limit".to_owned(), "sort".to_owned()];
        for query in ["", "limit=3", "sort=a&limit=", "limit&sort"] {
            assert!(refuse_unknown(query, &known).is_ok(), "{query}");
        }
        let refused = refuse_unknown("limt=3&sort=a&%6Cimit=1&x&limt=4", &known);
        let named = errors(refused.expect_err("refused"));
        let code = Value::from("unknown_parameter");
        assert_eq!(named, [("limt".into(), code.clone()), ("x".into(), code)]);
        let many: String = (0..100).map(|n| format!("p{n}=1&")).collect();
        let named = errors(refuse_unknown(&many, &known).expect_err("refused"));
        assert_eq!(named.len(), MOST_NAMED);
    }
}
