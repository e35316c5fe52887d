//! Versions of objects: `ETag` on the way out, `If-Match` on the way in, so that nobody overwrites what they have not seen
//! (RFC 9110, sections 8.8.3 and 13.1.1).

use std::future::{Ready, ready};

use actix_web::{
    FromRequest, HttpRequest, HttpResponse,
    dev::Payload,
    http::{StatusCode, header},
};
use serde::Serialize;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Required,
        path::{ParameterBuilder, ParameterIn},
    },
};

use super::{Answer, Argument, Operation, Reply};
use crate::http::Problem;

const REQUIRED: Answer = Answer::new(
    428,
    "precondition_required",
    "`If-Match` is needed, with the `ETag` of the object as it was last seen",
);
const FAILED: Answer = Answer::new(
    412,
    "precondition_failed",
    "the object has changed since it was last seen",
);

/// 200: an object in one of its versions; `ETag` names the version.
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

    fn respond(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::Ok()
            .insert_header((header::ETAG, etag(self.version)))
            .json(self.body)
    }
}

/// The value of `ETag` for a version: a strong one.
pub(super) fn etag(version: i64) -> String {
    format!("\"{version}\"")
}

/// The versions that a client will change: the header `If-Match`. A request without it is answered 428.
///
/// A tag may have the prefix `W/`, which the server itself adds where it sent the object compressed: each change of an object
/// has a version of its own, so the prefix says nothing about the object.
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
    /// 412 `precondition_failed`.
    pub fn check(&self, version: i64) -> Result<(), Problem> {
        let is_expected = match &self.0 {
            Expected::Any => true,
            Expected::Tags(tags) => {
                let current = etag(version);
                tags.iter()
                    .any(|tag| tag.strip_prefix("W/").unwrap_or(tag) == current)
            }
        };
        if is_expected {
            Ok(())
        } else {
            Err(FAILED.problem())
        }
    }
}

impl FromRequest for IfMatch {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let lines = request.headers().get_all(header::IF_MATCH);
        let lines: Vec<&str> = lines.filter_map(|line| line.to_str().ok()).collect();
        let tags = lines.iter().flat_map(|line| line.split(','));
        let tags: Vec<String> = tags
            .map(|tag| tag.trim().to_owned())
            .filter(|tag| !tag.is_empty())
            .collect();
        ready(match tags.as_slice() {
            [] => Err(REQUIRED.problem()),
            [any] if any == "*" => Ok(Self(Expected::Any)),
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
                .description(Some("The `ETag` of the object as it was last seen."))
                .schema(Some(<String as PartialSchema>::schema()))
                .build(),
        );
        operation.problem(REQUIRED);
        operation.problem(FAILED);
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

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
        ] {
            let checked = of(Some(header)).and_then(|expected| expected.check(version));
            assert_eq!(checked.is_ok(), is_right, "{header}");
        }
    }
}
