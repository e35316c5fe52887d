//! Addresses that an operator allows for outgoing calls.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::HostPattern;
use crate::settings::{Invalid, Setting};

/// A network, an address or a host that may be called though it is not public: `10.0.0.0/8`, `10.1.2.3:8080`,
/// `hooks.internal`, `*.internal:8443`. Without a port it is open on every port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressTarget {
    place: Place,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Network(IpNet),
    Host(HostPattern),
}

impl EgressTarget {
    /// Whether `address`, at `port`, is in the network.
    pub(crate) fn has_address(&self, address: IpAddr, port: u16) -> bool {
        let Place::Network(network) = &self.place else {
            return false;
        };
        network.contains(&address) && self.port.is_none_or(|only| only == port)
    }

    /// Whether it is the host `name`, in lower case and without a dot at its end, at `port`.
    pub(crate) fn has_host(&self, name: &str, port: u16) -> bool {
        let Place::Host(pattern) = &self.place else {
            return false;
        };
        pattern.matches(name) && self.port.is_none_or(|only| only == port)
    }

    /// Whether it is a single address.
    pub(crate) fn is_one_address(&self) -> bool {
        match &self.place {
            Place::Network(network) => network.prefix_len() == network.max_prefix_len(),
            Place::Host(_) => false,
        }
    }
}

impl fmt::Display for EgressTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.place, self.port) {
            (Place::Network(network), Some(port)) if network.addr().is_ipv6() => {
                write!(f, "[{}]:{port}", network.addr())
            }
            (Place::Network(network), Some(port)) => write!(f, "{}:{port}", network.addr()),
            (Place::Network(network), None) => write!(f, "{network}"),
            (Place::Host(pattern), Some(port)) => write!(f, "{}:{port}", pattern.as_str()),
            (Place::Host(pattern), None) => f.write_str(pattern.as_str()),
        }
    }
}

impl Setting for EgressTarget {
    const EXAMPLE: &'static str = "10.0.0.0/8";

    fn expected() -> String {
        "a network, an address or a host name, the latter two with a port if need be".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Invalid> {
        if let Ok(network) = <IpNet as Setting>::parse(text) {
            let place = Place::Network(network.trunc());
            return Ok(Self { place, port: None });
        }
        if text.contains('/') {
            return Err(Invalid::because(
                "a network has neither scheme nor port nor path",
            ));
        }
        let (place, port) = match text.rsplit_once(':') {
            Some((place, port)) if !text.ends_with(']') => {
                let port = port.parse().ok().filter(|port| *port != 0);
                let port = port.ok_or_else(|| {
                    Invalid::because("behind the `:` stands no port from 1 to 65535")
                })?;
                (place, Some(port))
            }
            _ => (text, None),
        };
        let in_brackets = place.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let place = match in_brackets.unwrap_or(place).parse::<IpAddr>() {
            Ok(address) if address.is_ipv4() || in_brackets.is_some() => {
                Place::Network(address.into())
            }
            _ => Place::Host(HostPattern::parse(place)?),
        };
        Ok(Self { place, port })
    }
}

#[cfg(test)]
#[expect(clippy::panic, reason = "a test that cannot go on should say where")]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_network_an_address_or_a_host() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("10.1.2.3:8080", "10.1.2.3:8080"),
            ("fd00::/8", "fd00::/8"),
            ("fd00::1", "fd00::1/128"),
            ("[fd00::1]:8443", "[fd00::1]:8443"),
            ("[fd00::1]", "fd00::1/128"),
            ("Hooks.Internal", "hooks.internal"),
            ("*.internal:8443", "*.internal:8443"),
            ("localhost", "localhost"),
        ] {
            let target = EgressTarget::parse(text).unwrap_or_else(|it| panic!("{text}: {it:?}"));
            assert_eq!(target.to_string(), shown, "{text}");
            assert_eq!(EgressTarget::parse(shown), Ok(target), "{shown}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "https://hooks.internal",
            "hooks.internal:0",
            "hooks.internal:https",
            "10.0.0.0/8:80",
            "10.0.0.0/33",
            "10.0.0.256",
            "*",
            "a.*.internal",
            "me@hooks.internal",
            "hooks.internal/path",
        ] {
            assert!(EgressTarget::parse(text).is_err(), "{text}");
        }
    }
}
