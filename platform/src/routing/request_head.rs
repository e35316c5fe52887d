//! The head of a request, for handlers that look at headers and cookies themselves.

use std::future::{Ready, ready};

use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    http::header::{self, HeaderMap},
};

use super::{Argument, Operation};
use crate::{access::AuthRequest, http};

/// Headers and cookies of the request, and whether it came over TLS.
#[derive(Clone, Debug)]
pub struct RequestHead {
    headers: HeaderMap,
    is_secure: bool,
}

impl RequestHead {
    /// The first header of that name, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// All headers of that name in their order; `None` for one that is not text. For headers that must not be taken for absent.
    pub fn headers(&self, name: &str) -> impl Iterator<Item = Option<&str>> {
        self.headers.get_all(name).map(|value| value.to_str().ok())
    }

    /// The first cookie of that name.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&str> {
        cookie(&self.headers, name)
    }

    /// Whether the client speaks TLS, to us or to a trusted proxy.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.is_secure
    }
}

/// The value of the first cookie `name` in the header `Cookie` (RFC 6265, 4.2).
pub(crate) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let lines = headers.get_all(header::COOKIE);
    let pairs = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'));
    pairs
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(found, value)| (found == name).then_some(value))
}

impl<'r> AuthRequest<'r> {
    /// The first cookie of that name.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&'r str> {
        cookie(self.headers, name)
    }
}

impl FromRequest for RequestHead {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, actix_web::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let (_, is_secure) = http::origin(request);
        ready(Ok(Self {
            headers: request.headers().clone(),
            is_secure,
        }))
    }
}

impl Argument for RequestHead {
    fn describe(_: &mut Operation) {}
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_cookie_is_found_among_others_and_by_its_whole_name() {
        let request = TestRequest::default()
            .append_header(("cookie", "a=1; session=x=y;b=2"))
            .append_header(("cookie", "session=second"))
            .to_http_request();
        for (name, value) in [
            ("session", Some("x=y")),
            ("a", Some("1")),
            ("b", Some("2")),
            ("sess", None),
            ("ession", None),
        ] {
            assert_eq!(cookie(request.headers(), name), value, "{name}");
        }
    }
}
