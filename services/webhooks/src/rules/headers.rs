//! Headers that an endpoint wants: which may be set, and how they are kept.

use std::collections::BTreeMap;

use dotmac_platform::{
    egress::{HeaderName, HeaderValue},
    routing::{Change, InvalidRequest},
    sealing::{Sealed, Sealer},
};
use secrecy::ExposeSecret as _;
use url::Url;
use zeroize::Zeroizing;

use crate::{
    WebhooksError,
    store::endpoints::{EndpointId, HEADERS, Headers},
};

/// The most headers of an endpoint.
pub(crate) const MOST_HEADERS: usize = 20;
/// The longest name and value, in bytes.
const LONGEST_NAME: usize = 64;
const LONGEST_VALUE: usize = 1024;

/// What a delivery has itself, or what belongs to the connection.
const RESERVED: [&str; 18] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// The headers `given`, with their names in lower case.
///
/// # Errors
///
/// 422 for one that is none, or that cannot be set.
pub(crate) fn checked(given: BTreeMap<String, String>) -> Result<Headers, InvalidRequest> {
    let mut headers = Headers::new();
    for (name, value) in given {
        let refused = |problem: &str| {
            let shown: String = name.chars().take(LONGEST_NAME).collect();
            InvalidRequest::fields([("headers", format!("`{shown}` {problem}"))])
        };
        let lower = name.to_ascii_lowercase();
        if name.len() > LONGEST_NAME || HeaderName::from_bytes(lower.as_bytes()).is_err() {
            return Err(refused("is no name of a header of at most 64 bytes"));
        }
        if lower.starts_with("webhook-") || RESERVED.contains(&&*lower) {
            return Err(refused("cannot be set"));
        }
        if value.len() > LONGEST_VALUE || HeaderValue::from_str(&value).is_err() {
            return Err(refused(
                "has a value that is none of a header, or is longer than 1024 bytes",
            ));
        }
        if headers.insert(lower, value).is_some() {
            return Err(refused("is there twice"));
        }
    }
    if headers.len() > MOST_HEADERS {
        let problem = format!("are more than {MOST_HEADERS}");
        return Err(InvalidRequest::fields([("headers", problem)]));
    }
    Ok(headers)
}

/// Whether headers that were set for the URL `former` may be sent to `next`: scheme, host and port are the same.
pub(crate) fn are_for(former: &str, next: &str) -> bool {
    let origin = |url| Url::parse(url).map(|url| url.origin());
    matches!((origin(former), origin(next)), (Ok(former), Ok(next)) if former == next)
}

/// The change of an endpoint that gets another host must set or remove each of its headers: their values are shown to no client,
/// and would reach the new host.
///
/// # Errors
///
/// 422 `headers`, with a header that the change does not name.
pub(crate) fn check_given_again(
    names: &[String],
    changed: &Change<BTreeMap<String, Option<String>>>,
) -> Result<(), InvalidRequest> {
    let is_named = |name: &String| match changed {
        Change::Keep => false,
        Change::Clear => true,
        Change::Set(changes) => changes.keys().any(|it| it.eq_ignore_ascii_case(name)),
    };
    match names.iter().find(|&name| !is_named(name)) {
        None => Ok(()),
        Some(name) => {
            let problem = format!(
                "`{name}` was set for the former host: set it again, or remove it by `null`"
            );
            Err(InvalidRequest::fields([("headers", problem)]))
        }
    }
}

/// Seals the headers of an endpoint; `None` for none.
pub(crate) fn seal(
    sealer: &Sealer,
    endpoint: EndpointId,
    headers: &Headers,
) -> Result<Option<Sealed<str>>, WebhooksError> {
    if headers.is_empty() {
        return Ok(None);
    }
    let text = Zeroizing::new(serde_json::to_string(headers).unwrap_or_default());
    Ok(Some(sealer.seal(HEADERS.of(endpoint), text.as_str())?))
}

/// Opens the headers of an endpoint.
pub(crate) fn open(
    sealer: &Sealer,
    endpoint: EndpointId,
    sealed: Option<&Sealed<str>>,
) -> Result<Headers, WebhooksError> {
    let Some(sealed) = sealed else {
        return Ok(Headers::new());
    };
    let text = sealer.open(HEADERS.of(endpoint), sealed)?;
    Ok(serde_json::from_str(text.expose_secret()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: &str) -> Result<Headers, String> {
        let given = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        checked(given).map_err(|error| error.to_string())
    }

    #[test]
    fn what_a_delivery_or_the_connection_has_cannot_be_set() {
        for name in [
            "Host",
            "webhook-signature",
            "Content-Type",
            "traceparent",
            "a b",
            "",
            "ä",
        ] {
            assert!(one(name, "x").is_err(), "{name}");
        }
        for value in ["a\r\nhost: b", "a\0", &"x".repeat(1025)] {
            assert!(one("x-a", value).is_err(), "{value}");
        }
        let twice = [("X-A", "1"), ("x-a", "2")].map(|(name, value)| (name.into(), value.into()));
        assert!(checked(BTreeMap::from(twice)).is_err());
        let kept = one("Authorization", "Bearer x").unwrap_or_default();
        assert_eq!(kept["authorization"], "Bearer x");
    }

    #[test]
    fn another_host_gets_no_header_that_was_set_for_the_former_one() {
        let former = "https://a.example/hooks";
        for (next, is_same) in [
            ("https://A.example:443/other?key=1", true),
            ("http://a.example/hooks", false),
            ("https://a.example:8443/hooks", false),
            ("https://b.example/hooks", false),
            ("no URL", false),
        ] {
            assert_eq!(are_for(former, next), is_same, "{next}");
        }
        let names = ["authorization".to_owned(), "x-team".to_owned()];
        let set = |names: &[&str]| {
            let changes = names.iter().map(|it| ((*it).to_owned(), None));
            Change::Set(changes.collect())
        };
        assert!(check_given_again(&names, &Change::Keep).is_err());
        assert!(check_given_again(&names, &set(&["x-team"])).is_err());
        assert!(check_given_again(&names, &set(&["X-Team", "Authorization"])).is_ok());
        assert!(check_given_again(&names, &Change::Clear).is_ok());
        assert!(check_given_again(&[], &Change::Keep).is_ok());
    }
}
