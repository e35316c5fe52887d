//! Versions of objects: `ETag` on the way out, `If-Match` on the way in, so that no client overwrites unread changes,
//! and `If-None-Match`, so that no client reads an unchanged object again (RFC 9110, sections 8.8.3, 13.1.1 and
//! 13.1.2).

use std::future::{Ready, ready};

use actix_web::{
    FromRequest, HttpRequest, HttpResponse,
    dev::Payload,
    http::{
        Method, StatusCode,
        header::{self, HeaderName},
    },
};
use serde::Serialize;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Required,
        path::{ParameterBuilder, ParameterIn},
    },
};

use super::{Argument, Operation, ProblemType, Reply};
use crate::http::Problem;

const REQUIRED: ProblemType = ProblemType::new(
    428,
    "precondition_required",
    "`If-Match` is required, with the last known `ETag` of the object",
);
const MALFORMED: ProblemType = ProblemType::new(
    400,
    "invalid_if_match",
    "`If-Match` must be `*` or a list of tags in double quotes, as `ETag` gives them",
);
const FAILED: ProblemType = ProblemType::new(
    412,
    "precondition_failed",
    "the object has changed since the given version",
);

/// The object has changed since the client saw it: 412 `precondition_failed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the object has changed since the given version")]
pub struct PreconditionFailed;

impl From<PreconditionFailed> for Problem {
    fn from(_: PreconditionFailed) -> Self {
        FAILED.problem()
    }
}

/// 200: an object in one of its versions; `ETag` names the version. 304 without the object, if `If-None-Match` has that tag.
#[derive(Clone, Debug)]
pub struct Versioned<T> {
    /// Grows with each change of the object.
    pub version: i64,
    /// The object.
    pub body: T,
}

impl<T: Serialize + ToSchema + 'static> Reply for Versioned<T> {
    fn describe(operation: &mut Operation) {
        operation.answer::<T>(StatusCode::OK, "What was asked for.");
        operation.answer_header(StatusCode::OK, "ETag", "Names this version of it.");
    }

    fn respond(self, request: &HttpRequest) -> HttpResponse {
        let tag = etag(self.version);
        let is_known = tags_of(request, &header::IF_NONE_MATCH)
            .iter()
            .any(|known| known == "*" || without_weakness(known) == tag);
        if is_known && matches!(*request.method(), Method::GET | Method::HEAD) {
            return HttpResponse::NotModified()
                .insert_header((header::ETAG, tag))
                .finish();
        }
        HttpResponse::Ok()
            .insert_header((header::ETAG, tag))
            .json(self.body)
    }
}

/// The tags of a conditional header, in all its lines.
fn tags_of(request: &HttpRequest, name: &HeaderName) -> Vec<String> {
    let lines = request.headers().get_all(name);
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(|tag| tag.trim().to_owned())
        .filter(|tag| !tag.is_empty())
        .collect()
}

/// Whether it is an entity tag (RFC 9110, 8.8.3).
fn is_tag(text: &str) -> bool {
    let quoted = without_weakness(text).strip_prefix('"');
    quoted.is_some_and(|rest| rest.strip_suffix('"').is_some_and(|tag| !tag.contains('"')))
}

/// A tag by which an object is found whether it was sent compressed or not.
fn without_weakness(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

/// The value of `ETag` for a version: a strong one. Objects in lists have it as `etag`.
#[must_use]
pub fn etag(version: i64) -> String {
    format!("\"{version}\"")
}

/// The versions that a client will change: the header `If-Match`. A request without it is answered 428.
///
/// A tag may have the prefix `W/`, which the server itself adds where it sent the object compressed: each change of an object
/// has its own version, so the prefix says nothing about the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IfMatch(Expected);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Expected {
    Any,
    Tags(Vec<String>),
}

impl IfMatch {
    /// Whether the object is still in a version that the client has seen.
    ///
    /// # Errors
    ///
    /// [`PreconditionFailed`] otherwise.
    pub fn check(&self, version: i64) -> Result<(), PreconditionFailed> {
        let is_expected = match &self.0 {
            Expected::Any => true,
            Expected::Tags(tags) => {
                let current = etag(version);
                tags.iter().any(|tag| without_weakness(tag) == current)
            }
        };
        if is_expected {
            Ok(())
        } else {
            Err(PreconditionFailed)
        }
    }
}

impl FromRequest for IfMatch {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let tags = tags_of(request, &header::IF_MATCH);
        ready(match tags.as_slice() {
            [] => Err(REQUIRED.problem()),
            [any] if any == "*" => Ok(Self(Expected::Any)),
            tags if !tags.iter().all(|tag| is_tag(tag)) => Err(MALFORMED.problem()),
            _ => Ok(Self(Expected::Tags(tags))),
        })
    }
}

impl Argument for IfMatch {
    fn describe(operation: &mut Operation) {
        operation.parameter(
            ParameterBuilder::new()
                .name("If-Match")
                .parameter_in(ParameterIn::Header)
                .required(Required::True)
                .description(Some("The last known `ETag` of the object."))
                .schema(Some(<String as PartialSchema>::schema()))
                .build(),
        );
        operation.problem(MALFORMED);
        operation.problem(REQUIRED);
        operation.problem(FAILED);
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{ResponseError, test::TestRequest};

    use super::*;

    fn of(header: Option<&str>) -> Result<IfMatch, Problem> {
        let request = TestRequest::patch();
        let request = match header {
            Some(value) => request.insert_header(("if-match", value)),
            None => request,
        };
        IfMatch::from_request(&request.to_http_request(), &mut Payload::None).into_inner()
    }

    #[test]
    fn a_change_needs_the_version_that_was_seen() {
        assert!(of(None).is_err() && of(Some(" , ")).is_err());
        assert_eq!(
            of(Some("7")).map_err(|problem| problem.status_code()).err(),
            Some(StatusCode::BAD_REQUEST)
        );
        for (header, version, is_right) in [
            ("\"7\"", 7, true),
            ("\"6\", \"7\"", 7, true),
            ("*", 7, true),
            ("\"6\"", 7, false),
            // As it was sent with a compressed body.
            ("W/\"7\"", 7, true),
            ("\"5\", W/\"7\"", 7, true),
            ("W/\"6\"", 7, false),
            ("w/\"7\"", 7, false),
            ("7", 7, false),
            ("\"7", 7, false),
        ] {
            let checked = of(Some(header)).map(|expected| expected.check(version));
            assert_eq!(matches!(checked, Ok(Ok(()))), is_right, "{header}");
        }
    }

    #[test]
    fn what_a_client_has_already_is_not_sent_again() {
        let object = || Versioned {
            version: 7,
            body: "text".to_owned(),
        };
        for (method, header, status) in [
            (Method::GET, "\"7\"", 304),
            (Method::GET, "W/\"7\"", 304),
            (Method::GET, "\"6\", \"7\"", 304),
            (Method::GET, "*", 304),
            (Method::GET, "\"6\"", 200),
            (Method::PATCH, "\"7\"", 200),
        ] {
            let request = TestRequest::default()
                .method(method)
                .insert_header((header::IF_NONE_MATCH, header));
            let answer = object().respond(&request.to_http_request());
            assert_eq!(answer.status(), status, "{header}");
            assert_eq!(
                answer.headers().get(header::ETAG).map(|tag| tag.as_bytes()),
                Some(&b"\"7\""[..])
            );
        }
    }
}
