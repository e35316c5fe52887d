//! The name of one request: taken from `x-request-id` if it is harmless, else made.
//!
//! It goes into the span, the log, each problem body and back to the client. What a client sends is
//! kept to an alphabet that can neither break a log line nor a header.

use std::{
    fmt,
    future::{Ready, ready},
};

use actix_web::{
    FromRequest, HttpMessage, HttpRequest,
    dev::Payload,
    http::header::{HeaderMap, HeaderName, HeaderValue},
};
use uuid::Uuid;

/// The header that carries the id, both ways.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id accepted from a client, in bytes.
const MAX_LENGTH: usize = 128;

/// Identifies one request; an extractor for handlers. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The id as text: 1 to 128 characters out of `A-Z a-z 0-9 . _ -`.
    pub fn as_str(&self) -> &str {
        // Always ASCII, see `accept` and `generate`.
        self.0.to_str().unwrap_or_default()
    }

    /// The client's id if it may be used, else a fresh one.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        headers
            .get(X_REQUEST_ID)
            .and_then(accept)
            .unwrap_or_else(Self::generate)
    }

    /// A UUID version 7 (RFC 9562), so that ids sort by time.
    fn generate() -> Self {
        let mut buffer = Uuid::encode_buffer();
        let text: &str = Uuid::now_v7().hyphenated().encode_lower(&mut buffer);
        Self(HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("unknown")))
    }

    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

fn accept(value: &HeaderValue) -> Option<RequestId> {
    let bytes = value.as_bytes();
    let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    // A copy: the value as it came keeps the connection's whole read buffer alive.
    ((1..=MAX_LENGTH).contains(&bytes.len()) && bytes.iter().all(harmless))
        .then(|| HeaderValue::from_bytes(bytes).ok())
        .flatten()
        .map(RequestId)
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromRequest for RequestId {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let known = request.extensions().get::<Self>().cloned();
        ready(Ok(known.unwrap_or_else(|| Self::of(request.headers()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(value: &[u8]) -> Option<RequestId> {
        accept(&HeaderValue::from_bytes(value).ok()?)
    }

    #[test]
    fn a_harmless_id_is_kept() {
        assert_eq!(
            given(b"Ab-9_.z").as_ref().map(RequestId::as_str),
            Some("Ab-9_.z")
        );
        assert!(given(&[b'a'; 128]).is_some());
    }

    #[test]
    fn an_id_that_could_forge_a_log_line_is_not_kept() {
        for forged in [
            &b""[..],
            b"a b",
            b"a\"b",
            b"{}",
            b"\xc3\xa9",
            b"a\tb",
            b"<x>",
            &[b'a'; 129],
        ] {
            assert_eq!(given(forged), None, "{forged:?}");
        }
    }

    #[test]
    fn made_ids_differ_and_sort_by_time() {
        let (first, second) = (RequestId::generate(), RequestId::generate());
        assert!(first.as_str() < second.as_str(), "{first} {second}");
        assert_eq!(first.as_str().len(), 36);
    }
}
