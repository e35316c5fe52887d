//! Replies with their own headers, and the reply to what is taken note of.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{HeaderName, HeaderValue},
    },
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Operation, Reply};

/// A reply with further headers: cookies, `Clear-Site-Data`.
#[derive(Clone, Debug)]
pub struct WithHeaders<R> {
    reply: R,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// 202: the request was understood. Nothing is said about what comes of it, which its client must not learn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Noted;

/// The body of [`Noted`]: `{}`.
#[derive(Serialize, ToSchema)]
struct Nothing {}

impl<R> WithHeaders<R> {
    /// `reply`, without further headers so far.
    pub const fn new(reply: R) -> Self {
        Self {
            reply,
            headers: Vec::new(),
        }
    }

    /// Adds a header. One whose value has characters that headers must not have is left out.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            self.headers.push((name, value));
        }
        self
    }
}

impl<R: Reply> Reply for WithHeaders<R> {
    fn describe(operation: &mut Operation) {
        R::describe(operation);
    }

    fn respond(self, request: &HttpRequest) -> HttpResponse {
        let mut response = self.reply.respond(request);
        for (name, value) in self.headers {
            response.headers_mut().append(name, value);
        }
        response
    }
}

impl Reply for Noted {
    fn describe(operation: &mut Operation) {
        operation.answer::<Nothing>(StatusCode::ACCEPTED, "The request was understood.");
    }

    fn respond(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::Accepted().json(Nothing {})
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use actix_web::{body::to_bytes, test::TestRequest};

    use super::{super::NoContent, *};

    #[test]
    fn headers_are_added_and_never_broken_out_of() {
        let reply = WithHeaders::new(NoContent)
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2")
            .header("x-other", "a\r\nset-cookie: c=3");
        let response = reply.respond(&TestRequest::default().to_http_request());
        assert_eq!(response.status(), 204);
        let cookies = response.headers().get_all("set-cookie");
        let cookies: Vec<_> = cookies.map(|value| value.as_bytes()).collect();
        assert_eq!(cookies, [b"a=1", b"b=2"]);
        assert!(response.headers().get("x-other").is_none());
    }

    #[actix_web::test]
    async fn what_is_noted_says_nothing() {
        let response = Noted.respond(&TestRequest::default().to_http_request());
        assert_eq!(response.status(), 202);
        let body = to_bytes(response.into_body()).await.expect("a body");
        assert_eq!(body.as_ref(), b"{}");
    }
}
