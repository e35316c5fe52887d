//! The one shape of errors on the wire: RFC 9457 `application/problem+json`.
//!
//! Handlers return [`Problem`] (or `Result<_, Problem>`); the envelope adds the request id. What a
//! client reads is said explicitly by [`Problem::detail`]; the cause ([`Problem::caused_by`]) goes to
//! the log only, so that an internal error cannot leak hosts, SQL or paths.

mod conversions;
mod kind;

use std::{borrow::Cow, error::Error, fmt, time::Duration};

use actix_web::{
    HttpResponse, ResponseError,
    http::{
        StatusCode,
        header::{self, HeaderName, HeaderValue},
    },
};
use serde::Serialize;
use utoipa::ToSchema;

use super::RequestId;

pub use kind::ProblemType;

/// Media type of every error body.
pub(super) const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// An error answer: status, a stable `code` for programs, a sentence for people.
///
/// ```
/// use dotmac_platform::http::Problem;
///
/// let problem = Problem::not_found("no account has this address").code("account_not_found");
/// let invalid = Problem::invalid("the account cannot be created").field_error("email", "is not an address");
/// ```
pub struct Problem(Box<Parts>);

struct Parts {
    status: StatusCode,
    code: Cow<'static, str>,
    detail: Option<Cow<'static, str>>,
    errors: Vec<FieldError>,
    headers: Vec<(HeaderName, HeaderValue)>,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

/// The fault of one field of a request.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FieldError {
    /// Name of the field, or `body`, `path`, `query`.
    pub field: Cow<'static, str>,
    /// The fault, for programs: `invalid`, `missing_field`, `unknown_field`.
    pub code: Cow<'static, str>,
    /// The fault, for people.
    pub message: Cow<'static, str>,
    /// Line in a malformed body, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Column in a malformed body, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
}

impl FieldError {
    /// A mistake in `field`, with a code for programs and a sentence for people.
    pub fn new(
        field: impl Into<Cow<'static, str>>,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            field: field.into(),
            code: code.into(),
            message: message.into(),
            line: None,
            column: None,
        }
    }
}

/// Body of every error answer (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody<'a> {
    /// Always `about:blank`: the status and `code` say what kind of problem it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'a str,
    /// The status as a number.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// The description of this case, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    /// The code for programs: stable, lower case, words joined by `_`.
    code: &'a str,
    /// The id of this request, as in the header `x-request-id` and in the server's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    /// The fields at fault, if it was a field.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

/// An error as a part of a larger answer: that of one item of a batch.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ItemProblem {
    /// The status that a request about this item alone would have.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// The code, for programs.
    code: Cow<'static, str>,
    /// The description, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Cow<'static, str>>,
    /// The fields at fault, if it was a field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
}

impl ItemProblem {
    /// The status that a request about this item alone would have.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }
}

impl From<Problem> for ItemProblem {
    fn from(problem: Problem) -> Self {
        let Parts {
            status,
            code,
            detail,
            errors,
            ..
        } = *problem.0;
        Self {
            status: status.as_u16(),
            code,
            detail,
            errors,
        }
    }
}

impl Problem {
    /// An error with this status; the code is the status in words (`not_found`) until [`code`](Self::code) says better.
    pub fn new(status: StatusCode) -> Self {
        Self(Box::new(Parts {
            status,
            code: code_of(status),
            detail: None,
            errors: Vec::new(),
            headers: Vec::new(),
            cause: None,
        }))
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.0.status.as_u16()
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST).detail(detail)
    }

    /// 401: who calls is not known.
    pub fn unauthorized(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED).detail(detail)
    }

    /// 403: who calls may not do this.
    pub fn forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN).detail(detail)
    }

    /// 404: there is no such thing.
    pub fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND).detail(detail)
    }

    /// 409: the thing's state forbids it.
    pub fn conflict(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT).detail(detail)
    }

    /// 422: understood, but a value is not acceptable; see [`field_error`](Self::field_error).
    pub fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY)
            .detail(detail)
            .code("invalid")
    }

    /// 500: our fault. The cause is logged; the client learns only the request id.
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR)
            .detail("the server failed to answer this request; its log has the details under the request id")
            .code("internal")
            .caused_by(cause)
    }

    /// 503: not now; the client may ask again after `retry_after`.
    pub fn unavailable(detail: impl Into<Cow<'static, str>>, retry_after: Duration) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE)
            .detail(detail)
            .code("unavailable")
            .retry_after(retry_after)
    }

    /// The sentence for people; never put internal error text here.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// The word for programs: stable, lower case, joined by `_`.
    #[must_use]
    pub fn code(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.0.code = code.into();
        self
    }

    /// Names a field at fault; may be called for each.
    #[must_use]
    pub fn field_error(
        self,
        field: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.field(FieldError::new(field, "invalid", message))
    }

    /// Names a field at fault, with a code for programs; may be called for each.
    #[must_use]
    pub fn field(mut self, error: FieldError) -> Self {
        self.0.errors.push(error);
        self
    }

    /// Sends a header along.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Says when the client may ask again: `Retry-After`, in whole seconds, from 1 to 3600.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        self.header(header::RETRY_AFTER, retry_after_seconds(wait))
    }

    /// Sends a header along, by its name; one whose value has characters that headers must not have is left out.
    #[must_use]
    pub fn text_header(self, name: &'static str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes());
        match (name, HeaderValue::from_str(value)) {
            (Ok(name), Ok(value)) => self.header(name, value),
            _ => self,
        }
    }

    /// Remembers why, for the log. Clients never see it.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// The answer to send.
    pub(super) fn render(&self, request_id: Option<&RequestId>) -> HttpResponse {
        let mut response = HttpResponse::build(self.0.status);
        for (name, value) in &self.0.headers {
            response.append_header((name.clone(), value.clone()));
        }
        response
            .insert_header((header::CONTENT_TYPE, PROBLEM_JSON))
            .body(self.body(request_id))
    }

    /// The answer's JSON.
    pub(crate) fn body(&self, request_id: Option<&RequestId>) -> Vec<u8> {
        let body = ProblemBody {
            kind: "about:blank",
            title: self.0.status.canonical_reason().unwrap_or("Error"),
            status: self.0.status.as_u16(),
            detail: self.0.detail.as_deref(),
            code: &self.0.code,
            request_id: request_id.map(RequestId::as_str),
            errors: &self.0.errors,
        };
        // Strings and numbers only: serialising them cannot fail.
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

/// Whole seconds, rounded up, at least 1: `Retry-After: 0` would invite a storm.
pub(super) fn retry_after_seconds(wait: Duration) -> HeaderValue {
    HeaderValue::from(wait.as_millis().div_ceil(1000).clamp(1, 3600) as u64)
}

/// `404 Not Found` -> `not_found`.
fn code_of(status: StatusCode) -> Cow<'static, str> {
    match status {
        StatusCode::BAD_REQUEST => "bad_request".into(),
        StatusCode::UNAUTHORIZED => "unauthorized".into(),
        StatusCode::FORBIDDEN => "forbidden".into(),
        StatusCode::NOT_FOUND => "not_found".into(),
        StatusCode::INTERNAL_SERVER_ERROR => "internal".into(),
        other => other
            .canonical_reason()
            .unwrap_or("error")
            .to_ascii_lowercase()
            .replace(|letter: char| !letter.is_ascii_alphanumeric(), "_")
            .into(),
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Problem")
            .field("status", &self.0.status)
            .field("code", &self.0.code)
            .field("detail", &self.0.detail)
            .field("errors", &self.0.errors)
            .field("cause", &self.0.cause)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.status.as_u16(), self.0.code)?;
        match &self.0.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl Error for Problem {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as _)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.0.status
    }

    fn error_response(&self) -> HttpResponse {
        self.render(None)
    }
}

#[cfg(test)]
mod tests {
    use dotmac_supervision::CallError;

    use super::*;

    #[test]
    fn codes_follow_from_the_status() {
        assert_eq!(
            code_of(StatusCode::METHOD_NOT_ALLOWED),
            "method_not_allowed"
        );
        assert_eq!(code_of(StatusCode::IM_A_TEAPOT), "i_m_a_teapot");
    }

    #[test]
    fn a_cause_is_not_in_the_body() {
        let problem = Problem::internal("password=hunter2 at db.internal");
        assert!(!String::from_utf8_lossy(&problem.body(None)).contains("hunter2"));
        assert!(
            problem
                .source()
                .is_some_and(|cause| cause.to_string().contains("hunter2"))
        );
    }

    #[test]
    fn a_caller_of_a_dead_actor_gets_retry_after() {
        let problem = Problem::from(CallError::Down {
            actor: "db",
            retry_after: Duration::from_millis(1200),
        });
        let response = problem.error_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            response.headers().get(header::RETRY_AFTER),
            Some(&HeaderValue::from_static("2"))
        );
        assert_eq!(problem.0.code, "component_unavailable");
    }

    #[test]
    fn retry_after_is_never_zero() {
        assert_eq!(
            retry_after_seconds(Duration::ZERO),
            HeaderValue::from_static("1")
        );
    }
}
