//! Cookies of browsers, and the check that a browser's request comes from this site.

use std::time::Duration;

use dotmac_platform::routing::RequestHead;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::AccountsError;

const SESSION: &str = "__Host-dotmac_session";
const DEVICE: &str = "__Host-dotmac_device";
const FLOW: &str = "__Host-dotmac_flow";

/// How long a device is known.
pub(crate) const DEVICE_KNOWN: Duration = Duration::from_secs(180 * 24 * 3600);

/// The name of the cookie that holds a session. Over plain HTTP, as on a developer's machine, browsers take no cookie
/// whose name begins with `__Host-`.
pub(crate) fn session_name(is_secure: bool) -> &'static str {
    if is_secure {
        SESSION
    } else {
        &SESSION["__Host-".len()..]
    }
}

/// The name of the cookie by which a device is known.
pub(crate) fn device_name(is_secure: bool) -> &'static str {
    if is_secure {
        DEVICE
    } else {
        &DEVICE["__Host-".len()..]
    }
}

/// The name of the cookie by which a browser shows that it asked for a mail.
pub(crate) fn flow_name(is_secure: bool) -> &'static str {
    if is_secure {
        FLOW
    } else {
        &FLOW["__Host-".len()..]
    }
}

/// The header `Set-Cookie` for `value`, good for so long.
pub(crate) fn set(name: &str, value: &SecretString, max_age: Duration, is_secure: bool) -> String {
    let (value, seconds) = (value.expose_secret(), max_age.as_secs());
    let secure = if is_secure { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")
}

/// The header `Set-Cookie` that takes the cookie away.
pub(crate) fn clear(name: &str, is_secure: bool) -> String {
    set(name, &SecretString::from(""), Duration::ZERO, is_secure)
}

/// Whether a request that changes data comes from this site, according to the browser.
///
/// # Errors
///
/// [`AccountsError::Csrf`] if it comes from another one, or if the browser says nothing.
pub(crate) fn check_site(
    fetch_site: Option<&str>,
    origin: Option<&str>,
    public_url: &Url,
) -> Result<(), AccountsError> {
    let is_ours = match (fetch_site, origin) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => origin == public_url.origin().ascii_serialization(),
        (None, None) => false,
    };
    if is_ours {
        Ok(())
    } else {
        Err(AccountsError::Csrf)
    }
}

/// The same for a request that signs in, which has no cookie yet: a client that is no browser sends neither header.
///
/// # Errors
///
/// As [`check_site`].
pub(crate) fn check_sign_in(head: &RequestHead, public_url: &Url) -> Result<(), AccountsError> {
    match (head.header("sec-fetch-site"), head.header("origin")) {
        (None, None) => Ok(()),
        (site, origin) => check_site(site, origin, public_url),
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn only_requests_of_this_site_change_anything() {
        let url: Url = "https://app.example/base".parse().expect("a URL");
        for (fetch_site, origin, is_ours) in [
            (Some("same-origin"), None, true),
            (Some("none"), None, true),
            (Some("same-site"), Some("https://app.example"), false),
            (Some("cross-site"), Some("https://app.example"), false),
            (None, Some("https://app.example"), true),
            (None, Some("http://app.example"), false),
            (None, Some("https://app.example.evil.example"), false),
            (None, Some("https://evil.example"), false),
            (None, Some("null"), false),
            (None, None, false),
        ] {
            assert_eq!(
                check_site(fetch_site, origin, &url).is_ok(),
                is_ours,
                "{fetch_site:?} {origin:?}"
            );
        }
    }

    #[test]
    fn cookies_are_for_this_host_alone() {
        let cookie = set(
            session_name(true),
            &"dms_x".into(),
            Duration::from_secs(60),
            true,
        );
        assert_eq!(
            cookie,
            "__Host-dotmac_session=dms_x; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"
        );
        assert_eq!(session_name(false), "dotmac_session");
    }
}
