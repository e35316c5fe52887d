//! Compresses responses that gain by it, by zstd or gzip, from 1000 bytes on.
//!
//! An encoder costs some hundred KiB, and a client that does not read keeps its response under way without a time
//! limit. So no encoder outlives the call that makes it where the body is known and small; for the rest their number is
//! bounded, and what comes beyond it is sent as it is. A body that never changes is compressed once, see [`Asset`].
//! Brotli is not offered: its encoder takes 10 MiB.
//!
//! actix's `Compress` has none of these bounds, no least size, and answers 406 where it could simply
//! not compress.

mod asset;
mod encoder;
mod streamed;

use std::sync::Arc;

use actix_web::{
    HttpMessage,
    body::{BodySize, BoxBody, MessageBody},
    dev::ServiceResponse,
    http::{
        StatusCode,
        header::{self, AcceptEncoding, ContentEncoding, Encoding, HeaderMap, HeaderValue},
    },
};
use tokio::sync::Semaphore;

pub(super) use asset::Asset;
use encoder::Encoder;
use streamed::Streamed;

/// Below this many bytes the encoding costs more than it saves: it all fits into one packet.
const LEAST: usize = 1000;

/// Up to this many bytes a body is compressed at once, on the worker's thread: 3 ms by zstd and 8 by gzip at the most. What
/// is that large is the metrics page of a daemon that has done everything once, with some 300 KiB; compressed in pieces, it
/// would be kept whole for each client that does not read.
const AT_ONCE: usize = 1024 * 1024;

/// Responses that may hold an encoder at the same time, over all workers.
const MOST_ENCODERS: usize = 64;

/// The encodings that are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Zstd,
    Gzip,
}

impl Coding {
    fn header(self) -> HeaderValue {
        match self {
            Self::Zstd => ContentEncoding::Zstd,
            Self::Gzip => ContentEncoding::Gzip,
        }
        .to_header_value()
    }

    /// The best that the client takes, zstd if it has no preference; none if it asks for none.
    fn of(request: &impl HttpMessage) -> Option<Self> {
        let accepted = request.get_header::<AcceptEncoding>()?;
        let offered = [Encoding::zstd(), Encoding::gzip(), Encoding::identity()];
        match accepted.negotiate(offered.iter())? {
            Encoding::Known(ContentEncoding::Zstd) => Some(Self::Zstd),
            Encoding::Known(ContentEncoding::Gzip) => Some(Self::Gzip),
            _ => None,
        }
    }
}

/// Compresses the responses of one server.
#[derive(Clone)]
pub(super) struct Compression {
    encoders: Arc<Semaphore>,
}

impl Compression {
    pub(super) fn new() -> Self {
        Self::with_encoders(MOST_ENCODERS)
    }

    /// With at most so many encoders held by responses at the same time.
    fn with_encoders(most: usize) -> Self {
        Self {
            encoders: Arc::new(Semaphore::new(most)),
        }
    }

    /// Compresses the body if client, kind and size allow it, and names the decision in `Vary`.
    pub(super) fn apply(&self, mut response: ServiceResponse) -> ServiceResponse {
        let size = response.response().body().size();
        if !is_worth_it(response.status(), response.headers(), size) {
            return response;
        }
        vary(response.headers_mut());
        let Some(coding) = Coding::of(response.request()) else {
            return response;
        };
        response.map_body(|head, body| match self.encoded(coding, body) {
            Ok(body) => {
                mark(head.headers_mut(), coding);
                head.no_chunking(false);
                body
            }
            Err(body) => body,
        })
    }

    /// The body compressed, or as it is where that is not possible now.
    fn encoded(&self, coding: Coding, body: BoxBody) -> Result<BoxBody, BoxBody> {
        let body = match body.try_into_bytes() {
            Ok(bytes) if bytes.len() <= AT_ONCE => {
                return encoder::at_once(coding, &bytes)
                    .map(BoxBody::new)
                    .ok_or_else(|| BoxBody::new(bytes));
            }
            Ok(bytes) => BoxBody::new(bytes),
            Err(body) => body,
        };
        let Ok(slot) = Arc::clone(&self.encoders).try_acquire_owned() else {
            return Err(body);
        };
        match Encoder::new(coding) {
            Ok(encoder) => Ok(BoxBody::new(Streamed::new(body, encoder, slot))),
            Err(_) => Err(body),
        }
    }
}

/// Says that a body is encoded.
fn mark(headers: &mut HeaderMap, coding: Coding) {
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_ENCODING, coding.header());
    weaken(headers);
}

/// Makes a strong `ETag` weak: a strong one stands for the exact bytes, of which the encoding sends others
/// (RFC 9110, 8.8.1).
fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(header::ETAG).map(HeaderValue::as_bytes) else {
        return;
    };
    if tag.starts_with(b"W/") {
        return;
    }
    match HeaderValue::from_bytes(&[b"W/", tag].concat()) {
        Ok(weak) => headers.insert(header::ETAG, weak),
        Err(_) => headers.remove(header::ETAG),
    };
}

/// Says that the body depends on what the client accepts.
fn vary(headers: &mut HeaderMap) {
    headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
}

fn is_worth_it(status: StatusCode, headers: &HeaderMap, size: BodySize) -> bool {
    let large = match size {
        BodySize::None => false,
        BodySize::Sized(bytes) => bytes >= LEAST as u64,
        BodySize::Stream => true,
    };
    let whole = !matches!(
        status,
        StatusCode::PARTIAL_CONTENT | StatusCode::SWITCHING_PROTOCOLS
    );
    let may_change = headers
        .get(header::CACHE_CONTROL)
        .and_then(|value| value.to_str().ok())
        .is_none_or(|value| !value.contains("no-transform"));
    large
        && whole
        && may_change
        && !headers.contains_key(header::CONTENT_ENCODING)
        && is_text(headers)
}

/// Kinds that shrink; images, archives and the like are compressed already. Event streams must not wait in a buffer.
fn is_text(headers: &HeaderMap) -> bool {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let kind = value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    match kind.as_str() {
        "text/event-stream" => false,
        "application/json" | "application/javascript" | "application/xml" | "application/wasm" => {
            true
        }
        kind => kind.starts_with("text/") || kind.ends_with("+json") || kind.ends_with("+xml"),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{HttpResponse, test::TestRequest};

    use super::*;

    fn of(kind: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers
    }

    #[test]
    fn a_thousand_bytes_of_text_are_worth_it() {
        let worth = |kind, bytes| is_worth_it(StatusCode::OK, &of(kind), BodySize::Sized(bytes));
        assert!(worth("application/json", 1000) && worth("text/html; charset=utf-8", 1000));
        assert!(worth("application/problem+json", 1000) && worth("image/svg+xml", 1000));
        assert!(
            !worth("application/json", 999)
                && !worth("image/png", 5000)
                && !worth("text/event-stream", 5000)
        );
    }

    /// Whether a response of so many bytes is compressed; it is kept, as by a client that does not read.
    fn compressed(compression: &Compression, bytes: usize) -> (bool, ServiceResponse) {
        let request = TestRequest::get().insert_header((header::ACCEPT_ENCODING, "zstd"));
        let response = HttpResponse::Ok()
            .content_type("text/plain")
            .body("x".repeat(bytes));
        let response = compression.apply(request.to_srv_response(response));
        let is_encoded = response.headers().contains_key(header::CONTENT_ENCODING);
        (is_encoded, response)
    }

    #[test]
    fn encoders_are_held_by_a_few_large_responses_only() {
        let compression = Compression::with_encoders(2);
        let large = AT_ONCE + 1;
        let first = compressed(&compression, large);
        let second = compressed(&compression, large);
        let third = compressed(&compression, large);
        assert_eq!((first.0, second.0, third.0), (true, true, false));
        assert!(
            compressed(&compression, AT_ONCE).0,
            "needs no separate encoder"
        );
        drop(first);
        assert!(
            compressed(&compression, large).0,
            "the encoder was not given back"
        );
    }
}
