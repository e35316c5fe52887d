//! The trusted part of a request's origin: proxies' headers and the `Host`.
//!
//! A header is only as good as who wrote it. `X-Forwarded-*` counts if the peer is one of our own
//! proxies, and then only as far as our own proxies wrote it.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
};

use actix_web::{
    dev::{RequestHead, ServiceRequest},
    http::{
        Uri,
        header::{self, HeaderMap},
    },
};
use ipnet::IpNet;

use crate::settings::HostPattern;

const X_FORWARDED_FOR: &str = "x-forwarded-for";
const X_FORWARDED_PROTO: &str = "x-forwarded-proto";

/// Whom to believe.
pub(super) struct Trusted {
    proxies: Vec<IpNet>,
    hosts: Vec<HostPattern>,
}

impl Trusted {
    pub(super) fn new(proxies: &[IpNet], hosts: &[HostPattern]) -> Self {
        Self {
            proxies: proxies.to_vec(),
            hosts: hosts.to_vec(),
        }
    }

    /// The client's address: the peer, or if the peer is a trusted proxy, the rightmost address of
    /// `X-Forwarded-For` that is not a trusted proxy. The client may have invented all values left of it.
    pub(super) fn client(&self, request: &ServiceRequest) -> Option<IpAddr> {
        let peer = request.peer_addr()?.ip().to_canonical();
        if !self.is_proxy(peer) {
            return Some(peer);
        }
        let mut client = peer;
        for hop in hops(request.headers()) {
            // A hop that is no address was not written by a proxy of ours: stop at what is known.
            let Some(address) = parse_hop(hop) else { break };
            client = address;
            if !self.is_proxy(address) {
                break;
            }
        }
        Some(client)
    }

    /// `https` or `http`, as the client sees it.
    pub(super) fn scheme(&self, request: &ServiceRequest) -> &'static str {
        let by_proxy = request
            .peer_addr()
            .is_some_and(|peer| self.is_proxy(peer.ip().to_canonical()));
        let forwarded = request
            .headers()
            .get(X_FORWARDED_PROTO)
            .filter(|_| by_proxy);
        match forwarded.map(header::HeaderValue::as_bytes) {
            Some(b"https") => "https",
            Some(b"http") => "http",
            _ if request.app_config().secure() => "https",
            _ => "http",
        }
    }

    /// Whether a request for this host may be answered.
    pub(super) fn is_host(&self, head: &RequestHead) -> bool {
        self.hosts.is_empty()
            || host(&head.uri, head.headers())
                .is_some_and(|host| self.hosts.iter().any(|pattern| pattern.matches(&host)))
    }

    /// The host asked for, if there is a list that it was checked against.
    pub(super) fn checked_host<'r>(&self, request: &'r ServiceRequest) -> Option<Cow<'r, str>> {
        if self.hosts.is_empty() {
            None
        } else {
            host(request.uri(), request.headers())
        }
    }

    fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies
            .iter()
            .any(|network| network.contains(&address))
    }
}

/// Whether the page that calls (`Origin`) was itself served from the host it calls.
///
/// Browsers send `Origin` with same-origin `POST` as well; that is no cross-origin request.
pub(super) fn is_same_origin(request: &ServiceRequest) -> bool {
    let headers = request.headers();
    let (Some(origin), Some(host)) = (headers.get(header::ORIGIN), headers.get(header::HOST))
    else {
        return false;
    };
    let authority = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"))
        .map(|(_, authority)| authority);
    authority.is_some_and(|authority| authority.as_bytes().eq_ignore_ascii_case(host.as_bytes()))
}

/// All entries of all `X-Forwarded-For` headers, the nearest hop first.
fn hops(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let mut lines: Vec<&str> = headers
        .get_all(X_FORWARDED_FOR)
        .map(|line| line.to_str().unwrap_or_default())
        .collect();
    lines.reverse();
    lines
        .into_iter()
        .flat_map(|line| line.rsplit(','))
        .map(str::trim)
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    let bare = hop
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(hop);
    bare.parse::<IpAddr>()
        .ok()
        .or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .map(|address| address.to_canonical())
}

/// The host asked for, in lower case, without port: of an absolute request target, else of `Host` (RFC 9112, 3.2.2).
fn host<'r>(uri: &'r Uri, headers: &'r HeaderMap) -> Option<Cow<'r, str>> {
    let authority = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => headers.get(header::HOST)?.to_str().ok()?,
    };
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => authority,
    };
    let lower = name.bytes().any(|byte| byte.is_ascii_uppercase());
    Some(if lower {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    })
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;
    use crate::settings::parsed;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn client(
        peer: &str,
        forwarded: &[&str],
    ) -> Result<Option<String>, Box<dyn std::error::Error>> {
        let trusted = Trusted::new(&["10.0.0.0/8".parse()?], &[]);
        let mut request = TestRequest::default().peer_addr(peer.parse()?);
        for line in forwarded {
            request = request.append_header((X_FORWARDED_FOR, *line));
        }
        Ok(trusted
            .client(&request.to_srv_request())
            .map(|address| address.to_string()))
    }

    #[test]
    fn a_stranger_cannot_claim_another_address() -> Outcome {
        assert_eq!(
            client("192.0.2.9:1", &["198.51.100.1"])?.as_deref(),
            Some("192.0.2.9")
        );
        Ok(())
    }

    #[test]
    fn behind_our_proxies_the_rightmost_stranger_is_the_client() -> Outcome {
        assert_eq!(
            client("10.0.0.1:1", &["6.6.6.6, 198.51.100.1, 10.0.0.2"])?.as_deref(),
            Some("198.51.100.1")
        );
        assert_eq!(
            client("10.0.0.1:1", &["6.6.6.6", "198.51.100.1:99"])?.as_deref(),
            Some("198.51.100.1")
        );
        assert_eq!(
            client("10.0.0.1:1", &["[2001:db8::1]:80"])?.as_deref(),
            Some("2001:db8::1")
        );
        Ok(())
    }

    #[test]
    fn a_hop_that_is_no_address_ends_the_walk() -> Outcome {
        assert_eq!(
            client("10.0.0.1:1", &["198.51.100.1, evil, 10.0.0.2"])?.as_deref(),
            Some("10.0.0.2")
        );
        assert_eq!(client("10.0.0.1:1", &[])?.as_deref(), Some("10.0.0.1"));
        Ok(())
    }

    #[test]
    fn a_host_is_compared_without_port_and_case() {
        let trusted = Trusted::new(&[], &[parsed("Example.org"), parsed("*.example.net")]);
        let asks = |host: &str| {
            trusted.is_host(
                TestRequest::default()
                    .insert_header((header::HOST, host))
                    .to_srv_request()
                    .head(),
            )
        };
        assert!(asks("example.org") && asks("EXAMPLE.org:8000") && asks("a.b.example.net"));
        assert!(
            !asks("example.net")
                && !asks("evilexample.net")
                && !asks("example.org.evil.com")
                && !asks(".example.net")
        );
    }

    #[test]
    fn a_page_of_this_very_host_is_no_other_origin() {
        let asks = |origin: &str| {
            is_same_origin(
                &TestRequest::default()
                    .insert_header((header::HOST, "localhost:8000"))
                    .insert_header((header::ORIGIN, origin))
                    .to_srv_request(),
            )
        };
        assert!(asks("http://localhost:8000"));
        assert!(
            !asks("http://localhost:8001")
                && !asks("null")
                && !asks("http://localhost:8000.evil.com")
        );
    }
}
