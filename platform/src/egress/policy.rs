//! The policy of outgoing calls: the one place that checks a URL and the addresses of its host.

use std::net::IpAddr;

use url::{Host, Url};

use super::{AddressClass, EgressError, address::unfolded};
use crate::settings::EgressTarget;

/// A longer URL is refused.
const LONGEST_URL: usize = 8192;

/// The addresses that an operator allows.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    /// Allowed addresses that are not public.
    pub(crate) allow: Vec<EgressTarget>,
    /// The ports of public addresses.
    pub(crate) ports: Vec<u16>,
    /// Whether this machine may be called.
    pub(crate) allows_loopback: bool,
    /// Whether public addresses may be called in the clear.
    pub(crate) allows_plain_http: bool,
}

/// Where a URL leads, before its name is resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    /// A name in lower case, without a dot at its end, or an address.
    pub(super) host: String,
    /// The address, if the URL has one in any notation: it needs no DNS lookup.
    pub(super) literal: Option<IpAddr>,
    pub(super) port: u16,
    pub(super) is_encrypted: bool,
}

/// Reads `text` as a URL that can be called.
///
/// # Errors
///
/// [`EgressError::InvalidUrl`].
pub(super) fn read_url(text: &str) -> Result<Url, EgressError> {
    let invalid = |problem| EgressError::InvalidUrl { problem };
    if text.len() > LONGEST_URL {
        return Err(invalid("it is longer than 8192 bytes"));
    }
    let url = Url::parse(text).map_err(|_| invalid("it is not an absolute URL"))?;
    Destination::of(&url)?;
    Ok(url)
}

impl Destination {
    /// Where `url` leads. Numbers in any notation that `inet_aton` takes are addresses, as browsers have it (WHATWG
    /// URL): `http://2130706433`, `http://0x7f.1`, `http://017700000001` are all of `127.0.0.1`.
    ///
    /// # Errors
    ///
    /// [`EgressError::InvalidUrl`].
    pub(super) fn of(url: &Url) -> Result<Self, EgressError> {
        let invalid = |problem| Err(EgressError::InvalidUrl { problem });
        let is_encrypted = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return invalid("its scheme is neither https nor http"),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return invalid("it holds a user name or a password");
        }
        let (host, literal) = match url.host() {
            Some(Host::Domain(name)) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                if name.is_empty() || name.ends_with('.') {
                    return invalid("its host is not a name");
                }
                (name.to_ascii_lowercase(), None)
            }
            Some(Host::Ipv4(address)) => (address.to_string(), Some(address.into())),
            Some(Host::Ipv6(address)) => (address.to_string(), Some(address.into())),
            None => return invalid("it has no host"),
        };
        let Some(port) = url.port_or_known_default().filter(|port| *port != 0) else {
            return invalid("its port is 0");
        };
        Ok(Self {
            host,
            literal,
            port,
            is_encrypted,
        })
    }
}

impl Policy {
    /// Judges a destination with all addresses that its host has. One that is blocked blocks them all: a host with a
    /// public and a private address would be reached at either.
    ///
    /// # Errors
    ///
    /// [`EgressError::BlockedAddress`], [`EgressError::BlockedPort`], [`EgressError::InsecureUrl`];
    /// [`EgressError::NotResolved`] without any address.
    pub(super) fn judge(
        &self,
        destination: &Destination,
        addresses: &[IpAddr],
    ) -> Result<(), EgressError> {
        if addresses.is_empty() {
            let host = destination.host.clone();
            return Err(EgressError::NotResolved { host });
        }
        let mut addresses = addresses.iter();
        addresses.try_for_each(|address| self.judge_address(destination, *address))
    }

    fn judge_address(&self, destination: &Destination, address: IpAddr) -> Result<(), EgressError> {
        let class = AddressClass::of(address);
        if self.opens(destination, address, class) {
            return Ok(());
        }
        let Destination { host, port, .. } = destination.clone();
        if class != AddressClass::Public {
            return Err(EgressError::BlockedAddress {
                host,
                address,
                class,
            });
        }
        if !destination.is_encrypted && !self.allows_plain_http {
            return Err(EgressError::InsecureUrl { host });
        }
        if !self.ports.contains(&port) {
            return Err(EgressError::BlockedPort { host, port });
        }
        Ok(())
    }

    /// Whether an operator opened `address`. Only its exact address opens a metadata service, so that neither a wide
    /// network nor a host in another party's DNS opens it by accident.
    fn opens(&self, destination: &Destination, address: IpAddr, class: AddressClass) -> bool {
        let Destination { host, port, .. } = destination;
        if self.allows_loopback && class == AddressClass::Loopback {
            return true;
        }
        let is_metadata = class == AddressClass::Metadata;
        let opens = |target: &EgressTarget, address| {
            target.has_address(address, *port) && (!is_metadata || target.is_one_address())
        };
        let opened = |address| self.allow.iter().any(|target| opens(target, address));
        let is_named = destination.literal.is_none()
            && !is_metadata
            && self.allow.iter().any(|target| target.has_host(host, *port));
        is_named || opened(address) || unfolded(address).into_iter().all(opened)
    }
}
