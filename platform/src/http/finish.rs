//! The last hand on each response: errors become problems, and the headers that all responses carry.

use actix_cors::CorsError;
use actix_web::{
    body::{BoxBody, MessageBody},
    dev::ServiceResponse,
    http::{
        ConnectionType, StatusCode,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
};

use super::{
    Problem, RequestId, methods::Methods, problem::PROBLEM_JSON, request_id::X_REQUEST_ID,
};

/// Longest plain text of a 4xx that is taken over as the problem's detail, in bytes.
const MAX_DETAIL: usize = 500;

/// Headers of every response, made once for each worker.
pub(super) struct Security(Vec<(HeaderName, HeaderValue)>);

impl Security {
    /// The headers that OWASP's "HTTP Headers Cheat Sheet" recommends for an API; pages that need more set their own
    /// policy.
    pub(super) fn new(hsts: bool) -> Self {
        let mut headers = vec![
            (
                header::X_CONTENT_TYPE_OPTIONS,
                HeaderValue::from_static("nosniff"),
            ),
            (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
            (
                header::REFERRER_POLICY,
                HeaderValue::from_static("no-referrer"),
            ),
            (
                header::CONTENT_SECURITY_POLICY,
                HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
            ),
            (
                HeaderName::from_static("permissions-policy"),
                HeaderValue::from_static("camera=(), geolocation=(), microphone=()"),
            ),
        ];
        if hsts {
            // One year, this host only: whether subdomains follow is not ours to say.
            headers.push((
                header::STRICT_TRANSPORT_SECURITY,
                HeaderValue::from_static("max-age=31536000"),
            ));
        }
        Self(headers)
    }

    /// Adds the headers that the response does not set itself.
    pub(super) fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.0 {
            if !headers.contains_key(name) {
                headers.insert(name.clone(), value.clone());
            }
        }
    }
}

/// Headers of one response, besides [`Security`].
pub(super) fn seal(response: &mut ServiceResponse, id: &RequestId, close: bool) {
    response.headers_mut().insert(X_REQUEST_ID, id.header());
    // After these the rest of the body is still on its way: a new connection is cheaper.
    let cut_off = matches!(
        response.status(),
        StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE
    );
    if (close || cut_off) && !response.response().upgrade() {
        response
            .response_mut()
            .head_mut()
            .set_connection_type(ConnectionType::Close);
    }
}

/// An error response with a problem as its body; any other response as it is.
///
/// A handler's own JSON is left alone. Empty and plain-text bodies, as actix and its extractors make
/// them, are replaced, keeping the headers: a 4xx keeps its text as detail, a 5xx never does.
pub(super) fn as_problem(
    mut response: ServiceResponse,
    id: &RequestId,
    path: &str,
    methods: &Methods,
) -> ServiceResponse {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    if status == StatusCode::METHOD_NOT_ALLOWED
        && !response.headers().contains_key(header::ALLOW)
        && let Some(allow) = methods.allow(path)
    {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    let error = response.response().error();
    if let Some(problem) = error.and_then(|error| error.as_error::<Problem>()) {
        let body = problem.body(Some(id));
        return with_body(response, body);
    }
    if let Some(refused) = error.and_then(|error| error.as_error::<CorsError>()) {
        let problem = cors(refused);
        *response.response_mut().status_mut() = actix_web::ResponseError::status_code(&problem);
        return with_body(response, problem.body(Some(id)));
    }
    if !is_plain(response.headers()) {
        return response;
    }
    response.map_body(|head, body| {
        let problem = plain(status, body);
        mark(head.headers_mut());
        BoxBody::new(problem.body(Some(id)))
    })
}

fn with_body(response: ServiceResponse, body: Vec<u8>) -> ServiceResponse {
    response.map_body(|head, _| {
        mark(head.headers_mut());
        BoxBody::new(body)
    })
}

/// The headers that describe a body, for the new one.
fn mark(headers: &mut HeaderMap) {
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::CONTENT_ENCODING);
    headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
}

/// No body's kind, or plain text: nothing that a handler made on purpose for programs to read.
fn is_plain(headers: &HeaderMap) -> bool {
    match headers.get(header::CONTENT_TYPE) {
        None => true,
        Some(kind) => {
            kind.as_bytes().starts_with(b"text/plain")
                || kind.as_bytes() == b"application/octet-stream"
        }
    }
}

fn plain(status: StatusCode, body: BoxBody) -> Problem {
    let problem = match status {
        StatusCode::INTERNAL_SERVER_ERROR => return Problem::internal("a plain error response"),
        other => Problem::new(other),
    };
    if status.is_server_error() {
        return problem;
    }
    match body
        .try_into_bytes()
        .map(|text| String::from_utf8(text.to_vec()))
    {
        Ok(Ok(text)) if !text.trim().is_empty() && text.len() <= MAX_DETAIL => problem.detail(text),
        _ => problem,
    }
}

fn cors(refused: &CorsError) -> Problem {
    match refused {
        CorsError::OriginNotAllowed => {
            Problem::forbidden("pages of this origin may not call this server")
                .code("origin_not_allowed")
        }
        CorsError::MethodNotAllowed | CorsError::HeadersNotAllowed => {
            Problem::forbidden("other origins may not use this method or these headers")
                .code("cors_not_allowed")
        }
        _ => Problem::bad_request(
            "a preflight request needs `Origin` and valid `Access-Control-Request-*` headers",
        )
        .code("malformed_preflight"),
    }
}
