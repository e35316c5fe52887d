//! Names and addresses of machines.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Deref;

use crate::settings::{Invalid, Setting};

/// A host name or an IP address, without scheme, port or brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(String);

impl Deref for HostName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Setting for HostName {
    const EXAMPLE: &'static str = "127.0.0.1";

    fn expected() -> String {
        "a host name or an IP address".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Invalid> {
        if text.parse::<IpAddr>().is_ok() || is_name(text) {
            Ok(Self(text.to_owned()))
        } else if text.contains(':') {
            Err(Invalid::because(
                "it holds a scheme or a port, which have no place here",
            ))
        } else {
            Err(Invalid::plain())
        }
    }
}

/// A [`HostName`], or the directory of a Unix socket as an absolute path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerHost(String);

impl Deref for ServerHost {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Setting for ServerHost {
    const EXAMPLE: &'static str = "db.example";

    fn expected() -> String {
        "a host name, an IP address or the directory of a socket".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Invalid> {
        if text.starts_with('/') && !text.chars().any(char::is_control) {
            return Ok(Self(text.to_owned()));
        }
        HostName::parse(text).map(|host| Self(host.0))
    }
}

/// A host name as it appears in a `Host` header, lower case; `*.` in front stands for any one or
/// more labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern(String);

impl HostPattern {
    /// The pattern as text, lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `host`, without its port and in any case, is meant.
    pub fn matches(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        match self.0.strip_prefix('*') {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => host == self.0,
        }
    }
}

impl Setting for HostPattern {
    const EXAMPLE: &'static str = "example.com";

    fn expected() -> String {
        "a host name, `*.` allowed in front".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Invalid> {
        let rest = text.strip_prefix("*.").unwrap_or(text);
        let is_whole = rest.len() == text.len();
        if is_name(rest) || (is_whole && is_address(text)) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(Invalid::because(
                "a name has neither scheme nor port nor path",
            ))
        }
    }
}

/// An address as a `Host` header spells it: IPv6 in brackets.
fn is_address(text: &str) -> bool {
    let in_brackets = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    in_brackets.map_or_else(
        || text.parse::<std::net::Ipv4Addr>().is_ok(),
        |address| address.parse::<Ipv6Addr>().is_ok(),
    )
}

pub(super) fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    // All digits and dots would be an address, and it was not a right one.
    let is_number = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.len() <= 253 && !is_number && text.split('.').all(is_label)
}

/// Whether what is sent to `host` stays on this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_ascii_lowercase();
    host.starts_with('/')
        || host == "localhost"
        || host.ends_with(".localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback())
}
