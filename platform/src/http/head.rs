//! Refusals by a request's head only, before its body is read.
//!
//! The guard asks here for every request.

use std::{net::Ipv6Addr, rc::Rc};

use actix_web::{
    dev::RequestHead,
    http::{
        Method, StatusCode, Uri,
        header::{self, HeaderMap, HeaderValue},
    },
};

use super::{Problem, extractor_errors, nul, trusted::Trusted};

/// The requirements on the head of a request.
#[derive(Clone)]
pub(super) struct HeadRules {
    /// Hosts answered to.
    pub(super) trusted: Rc<Trusted>,
}

impl HeadRules {
    /// Why this request is refused, if it is. `any_host`: whether it is answered under every host name;
    /// `body_limit`: the largest body, in bytes.
    pub(super) fn refusal(
        &self,
        head: &RequestHead,
        any_host: bool,
        body_limit: usize,
    ) -> Option<Problem> {
        if !is_target(&head.method, &head.uri) {
            return Some(
                Problem::bad_request(
                    "the request target must be a path that begins with `/`, or an absolute URL",
                )
                .code("malformed_target"),
            );
        }
        if !has_valid_host(head.headers()) {
            return Some(
                Problem::bad_request(
                    "the header `Host` must be a host name or an address, and a port if it is not the default",
                )
                .code("malformed_host"),
            );
        }
        if !any_host && !self.trusted.is_host(head) {
            return Some(
                Problem::bad_request("this server does not answer for this host")
                    .code("untrusted_host"),
            );
        }
        if let Some(part) = nul::part_of(&head.uri) {
            return Some(nul::refused(part));
        }
        if is_encoded(head.headers()) {
            return Some(unsupported_encoding());
        }
        announced_length(head.headers())
            .is_some_and(|length| length > body_limit as u64)
            .then(|| extractor_errors::too_large(body_limit))
    }
}

/// Whether the `Host` of a request is one, or absent as HTTP/1.0 allows.
pub(super) fn has_valid_host(headers: &HeaderMap) -> bool {
    headers
        .get(header::HOST)
        .is_none_or(|host| is_authority(host.as_bytes()))
}

/// 415 for a body that would have to be unpacked.
///
/// Unpacked it could be a million times as large, and the decoders of actix-web unpack each piece
/// as a whole before it can be counted.
fn unsupported_encoding() -> Problem {
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE)
        .detail("the body must be sent as it is, without `Content-Encoding`")
        .code("unsupported_content_encoding")
        // RFC 9110, 12.5.3: which encodings of a request would have been accepted.
        .header(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        )
}

/// Whether the body is encoded in any way, known here or not.
fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::CONTENT_ENCODING)
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .any(|encoding| !encoding.is_empty() && !encoding.eq_ignore_ascii_case(b"identity"))
}

fn announced_length(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.trim().parse().ok()
}

/// Whether the request target has a form that this method allows (RFC 9112, 3.2).
fn is_target(method: &Method, uri: &Uri) -> bool {
    if *method == Method::CONNECT {
        return uri.scheme().is_none() && uri.authority().is_some();
    }
    match uri.path() {
        "*" => *method == Method::OPTIONS,
        path => path.starts_with('/') && uri.scheme().is_some() == uri.authority().is_some(),
    }
}

/// `example.org`, `192.0.2.1:80`, `[2001:db8::1]:80` (RFC 3986, 3.2.2), without a user and not empty.
fn is_authority(text: &[u8]) -> bool {
    let (is_host, port) = match text.strip_prefix(b"[") {
        Some(rest) => {
            let end = rest.iter().position(|byte| *byte == b']');
            let Some((address, port)) = end.and_then(|end| rest.split_at_checked(end)) else {
                return false;
            };
            let address = std::str::from_utf8(address).map(str::parse::<Ipv6Addr>);
            (matches!(address, Ok(Ok(_))), &port[1..])
        }
        None => {
            let end = text.iter().position(|byte| *byte == b':');
            let (name, port) = text.split_at(end.unwrap_or(text.len()));
            (
                !name.is_empty() && name.iter().copied().all(is_of_name),
                port,
            )
        }
    };
    let is_port = match port.split_first() {
        None => true,
        Some((b':', [])) => true,
        Some((b':', [b'+', ..])) => false,
        Some((b':', number)) => {
            std::str::from_utf8(number).is_ok_and(|it| it.parse::<u16>().is_ok())
        }
        Some(_) => false,
    };
    is_host && is_port
}

/// Whether a registered name may have this byte; `%` begins an encoded one.
fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_and_a_port() {
        for host in [
            "example.org",
            "example.org:8000",
            "example.org:",
            "EXAMPLE.org.",
            "my_service",
            "192.0.2.1:80",
            "[::1]",
            "[2001:db8::1]:80",
        ] {
            assert!(is_authority(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            ":80",
            "a b\"<>",
            "a/b",
            "a\\b",
            "user@example.org",
            "a:b",
            "a:80:80",
            "a:+80",
            "a:99999",
            "2001:db8::1",
            "[::1",
            "[example.org]",
            "[::1]80",
            "ex\u{e4}mple.org",
        ] {
            assert!(!is_authority(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn a_target_has_the_form_that_its_method_allows() -> Result<(), Box<dyn std::error::Error>> {
        for (method, target, allowed) in [
            (Method::GET, "/health", true),
            (Method::GET, "http://example.org/health", true),
            (Method::GET, "http://example.org", true),
            (Method::OPTIONS, "*", true),
            (Method::CONNECT, "example.org:443", true),
            (Method::GET, "health", false),
            (Method::GET, "example.org:443", false),
            (Method::GET, "*", false),
            (Method::CONNECT, "/health", false),
        ] {
            assert_eq!(is_target(&method, &target.parse()?), allowed, "{target}");
        }
        Ok(())
    }

    #[test]
    fn every_encoding_but_identity_is_noticed() {
        let encoded = |lines: &[&str]| {
            let request = lines.iter().fold(TestRequest::default(), |request, line| {
                request.append_header((header::CONTENT_ENCODING, *line))
            });
            is_encoded(request.to_http_request().headers())
        };
        for lines in [
            &["gzip"][..],
            &["BR"],
            &["x-unknown"],
            &["identity, zstd"],
            &["identity", "gzip, br"],
            &["\"identity\""],
        ] {
            assert!(encoded(lines), "{lines:?}");
        }
        for lines in [&[][..], &["identity"], &["Identity, identity"], &[""]] {
            assert!(!encoded(lines), "{lines:?}");
        }
    }
}
