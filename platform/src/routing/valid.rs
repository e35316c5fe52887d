//! A JSON body that has been checked as a whole, with every mistake reported at once.

use std::{future::Future, ops::Deref};

use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload, web::Bytes};
use futures_util::future::LocalBoxFuture;
use garde::Validate;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use super::{Argument, Operation, ProblemType};
use crate::http::{self, FieldError, Problem};

pub(super) const INVALID: ProblemType =
    ProblemType::new(422, "validation", "some values are not valid");

/// A request's JSON body as a `T` that its own rules accept. Derefs to it.
///
/// - 415 `unsupported_media_type` unless the body is sent as JSON;
/// - 400 `malformed_json` or `invalid_body` for what is no `T`, with the place of the mistake;
/// - 400 `unknown_fields` that names every field `T` does not have;
/// - 422 `validation` with all broken rules at once.
#[derive(Clone, Debug)]
pub struct Valid<T>(pub T);

impl<T> Valid<T> {
    /// The value.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Valid<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> FromRequest for Valid<T>
where
    T: DeserializeOwned + Validate<Context = ()> + 'static,
{
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<Self, actix_web::Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let is_json = is_json(request);
        let body = Bytes::from_request(request, payload);
        Box::pin(valid(is_json, body))
    }
}

async fn valid<T: DeserializeOwned + Validate<Context = ()>>(
    is_json: bool,
    body: impl Future<Output = Result<Bytes, actix_web::Error>>,
) -> Result<Valid<T>, actix_web::Error> {
    if !is_json {
        return Err(http::unsupported("application/json").into());
    }
    let value: T = read(&body.await?)?;
    value.validate().map_err(|report| refused(&report))?;
    Ok(Valid(value))
}

/// Reads `body` as a `T` that has every field of it.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let (mut unknown, mut place) = (Vec::new(), serde_path_to_error::Track::new());
    let mut reader = serde_json::Deserializer::from_slice(body);
    let tracked = serde_path_to_error::Deserializer::new(&mut reader, &mut place);
    let value = serde_ignored::deserialize(tracked, |path| unknown.push(path.to_string()))
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|error| http::malformed_json(&error, &place.path().to_string()))?;
    if unknown.is_empty() {
        return Ok(value);
    }
    let problem = Problem::bad_request("the body has unknown fields").code("unknown_fields");
    Err(unknown.into_iter().fold(problem, |problem, field| {
        problem.field(FieldError::new(
            field,
            "unknown_field",
            "there is no such field",
        ))
    }))
}

pub(super) fn refused(report: &garde::Report) -> Problem {
    report
        .iter()
        .fold(INVALID.problem(), |problem, (path, error)| {
            let path = path.to_string();
            let field = if path.is_empty() {
                "body".to_owned()
            } else {
                path
            };
            problem.field(FieldError::new(
                field,
                "invalid",
                error.message().to_owned(),
            ))
        })
}

pub(super) fn is_json(request: &HttpRequest) -> bool {
    let kind = request.mime_type().ok().flatten();
    kind.is_some_and(|kind| {
        kind.subtype() == "json" || kind.suffix().is_some_and(|suffix| suffix == "json")
    })
}

impl<T> Argument for Valid<T>
where
    T: DeserializeOwned + Validate<Context = ()> + ToSchema + 'static,
{
    fn describe(operation: &mut Operation) {
        describe_body::<T>(operation);
    }
}

/// Writes down that an operation takes a JSON body, and how that can fail.
pub(super) fn describe_body<T: ToSchema>(operation: &mut Operation) {
    operation.body::<T>("application/json");
    for (status, code, description) in [
        (
            400,
            "invalid_body",
            "the body is not JSON of the shape wanted here",
        ),
        (400, "malformed_json", "the body is not JSON"),
        (
            400,
            "unknown_fields",
            "the body has fields that are not known here",
        ),
        (413, "body_too_large", "the body is larger than the limit"),
        (
            415,
            "unsupported_media_type",
            "the body must be sent as application/json",
        ),
    ] {
        operation.problem(ProblemType::new(status, code, description));
    }
    operation.problem(INVALID);
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, Validate)]
    struct New {
        #[garde(length(chars, min = 1, max = 5))]
        text: String,
        #[garde(length(max = 2), inner(length(max = 3)))]
        #[serde(default)]
        tags: Vec<String>,
    }

    fn problem_of(body: &str) -> serde_json::Value {
        let problem = read::<New>(body.as_bytes())
            .and_then(|new| new.validate().map_err(|report| refused(&report)))
            .expect_err("refused");
        serde_json::from_slice(&problem.body(None)).expect("JSON")
    }

    #[test]
    fn every_broken_rule_is_reported_at_once() {
        let problem = problem_of(r#"{"text":"","tags":["long","a","b"]}"#);
        assert_eq!(problem["code"], "validation");
        let fields: Vec<_> = problem["errors"]
            .as_array()
            .expect("errors")
            .iter()
            .map(|it| it["field"].clone())
            .collect();
        assert_eq!(fields, ["tags[0]", "tags", "text"]);
    }

    #[test]
    fn unknown_fields_are_named() {
        let problem = problem_of(r#"{"text":"a","admin":true,"nested":{"x":1}}"#);
        assert_eq!(
            (problem["status"].clone(), problem["code"].clone()),
            (400.into(), "unknown_fields".into())
        );
        assert_eq!(problem["errors"][0]["field"], "admin");
        assert_eq!(problem["errors"][1]["field"], "nested");
    }

    #[derive(Debug, Deserialize)]
    struct Nested {
        #[serde(rename = "many")]
        _many: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    struct Inner {
        #[serde(rename = "number")]
        _number: u8,
    }

    #[test]
    fn a_value_of_a_wrong_type_is_named_by_its_place() {
        for (body, field, code) in [
            (r#"{"text":5}"#, "text", "invalid"),
            (r#"{"text":"a","tags":["b",{}]}"#, "tags[1]", "invalid"),
            (r#"{"tags":[]}"#, "text", "missing_field"),
            (r#"{"text":"a","text":"b"}"#, "text", "duplicate_field"),
            ("5", "body", "invalid"),
        ] {
            let problem = problem_of(body);
            let shape = (problem["status"].clone(), problem["code"].clone());
            assert_eq!(shape, (400.into(), "invalid_body".into()), "{body}");
            assert_eq!(problem["errors"][0]["field"], field, "{body}");
            assert_eq!(problem["errors"][0]["code"], code, "{body}");
        }
        for (body, field) in [
            (
                r#"{"many":[{"number":1},{"number":256}]}"#,
                "many[1].number",
            ),
            (r#"{"many":[{}]}"#, "many[0].number"),
        ] {
            let problem = read::<Nested>(body.as_bytes()).expect_err("refused");
            let problem: serde_json::Value =
                serde_json::from_slice(&problem.body(None)).expect("JSON");
            assert_eq!(problem["errors"][0]["field"], field, "{body}");
        }
    }

    #[test]
    fn what_follows_the_body_is_a_mistake() {
        assert_eq!(problem_of(r#"{"text":"a"} {}"#)["code"], "malformed_json");
    }
}
