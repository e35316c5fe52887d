//! Compresses responses that gain by it: br, gzip or zstd, from 1000 bytes on.
//!
//! actix's `Compress` has no least size and answers 406 where it could simply not compress; hence its
//! encoder is used directly, and only the decision is made here.

use actix_http::encoding::Encoder;
use actix_web::{
    HttpMessage,
    body::{BodySize, BoxBody, MessageBody},
    dev::ServiceResponse,
    http::{
        StatusCode,
        header::{self, AcceptEncoding, ContentEncoding, Encoding, HeaderMap, HeaderValue},
    },
};

/// Below this many bytes the encoding costs more than it saves: it all fits into one packet.
const LEAST: u64 = 1000;

/// Compresses the body if client, kind and size allow it, and names the decision in `Vary`.
pub(super) fn compress(response: ServiceResponse) -> ServiceResponse {
    if !is_worth_it(
        response.status(),
        response.headers(),
        response.response().body().size(),
    ) {
        return response;
    }
    let encoding = chosen(&response);
    response.map_body(|head, body| match encoding {
        Some(encoding) => BoxBody::new(Encoder::response(encoding, head, body)),
        None => {
            head.headers_mut()
                .append(header::VARY, HeaderValue::from_static("accept-encoding"));
            body
        }
    })
}

/// The best of our encodings that the client takes; none if it asks for none.
fn chosen(response: &ServiceResponse) -> Option<ContentEncoding> {
    let supported = [
        Encoding::brotli(),
        Encoding::zstd(),
        Encoding::gzip(),
        Encoding::identity(),
    ];
    let accepted = response.request().get_header::<AcceptEncoding>()?;
    match accepted.negotiate(supported.iter())? {
        Encoding::Known(ContentEncoding::Identity) | Encoding::Unknown(_) => None,
        Encoding::Known(encoding) => Some(encoding),
    }
}

fn is_worth_it(status: StatusCode, headers: &HeaderMap, size: BodySize) -> bool {
    let large = match size {
        BodySize::None => false,
        BodySize::Sized(bytes) => bytes >= LEAST,
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
}
