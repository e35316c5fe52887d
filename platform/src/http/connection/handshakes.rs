//! How many TLS handshakes each client address has under way.
//!
//! A handshake costs its client nothing until it is finished, so many silent ones are the cheapest way
//! to use up connections. Addresses of trusted proxies speak for many clients and have no such limit.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

use ipnet::IpNet;

use super::{Config, Connections};

pub(super) struct Handshakes {
    /// As configured.
    per_address: usize,
    proxies: Vec<IpNet>,
    under_way: Mutex<HashMap<IpAddr, usize>>,
}

impl Handshakes {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            per_address: config.tls_handshakes_per_address,
            proxies: config.trusted_proxies.clone(),
            under_way: Mutex::default(),
        }
    }

    /// Takes one more handshake of `peer` into the count. One address gets at most a quarter of all `connections`, even
    /// if the setting is higher.
    fn begin(&self, peer: IpAddr, connections: usize) -> Begun {
        let peer = peer.to_canonical();
        if self.proxies.iter().any(|network| network.contains(&peer)) {
            return Begun::Uncounted;
        }
        let address = counted_as(peer);
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = under_way.entry(address).or_default();
        if *count >= self.per_address.min((connections / 4).max(1)) {
            return Begun::Refused;
        }
        *count += 1;
        Begun::Counted(address)
    }

    fn end(&self, address: IpAddr) {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = under_way.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&address);
            }
        }
        if under_way.is_empty() {
            under_way.shrink_to(64);
        }
    }
}

enum Begun {
    Counted(IpAddr),
    Uncounted,
    Refused,
}

/// An IPv6 client has a whole network of addresses to choose from, of 64 bits at the least.
fn counted_as(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(
            address.to_bits() & !u128::from(u64::MAX),
        )),
    }
}

/// A handshake that may go on; it is under way until this is dropped.
pub(super) struct Handshake {
    connections: Arc<Connections>,
    address: Option<IpAddr>,
}

impl Handshake {
    /// `None` if the address of `peer` has too many under way.
    pub(super) fn begin(connections: &Arc<Connections>, peer: IpAddr) -> Option<Self> {
        let address = match connections.handshakes.begin(peer, connections.most()) {
            Begun::Counted(address) => Some(address),
            Begun::Uncounted => None,
            Begun::Refused => return None,
        };
        Some(Self {
            connections: Arc::clone(connections),
            address,
        })
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        if let Some(address) = self.address {
            self.connections.handshakes.end(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::testing::config;

    fn connections(per_address: usize) -> Arc<Connections> {
        Connections::new(&Config {
            tls_handshakes_per_address: per_address,
            max_connections: 100,
            trusted_proxies: vec![crate::settings::parsed("10.0.0.0/8")],
            ..config()
        })
    }

    type Outcome = Result<(), std::net::AddrParseError>;

    /// The admitted ones of `count` handshakes of `peer`.
    fn begin(
        connections: &Arc<Connections>,
        peer: &str,
        count: usize,
    ) -> Result<Vec<Handshake>, std::net::AddrParseError> {
        let peer = peer.parse()?;
        let begin = |_| Handshake::begin(connections, peer);
        Ok((0..count).filter_map(begin).collect())
    }

    #[test]
    fn an_address_has_so_many_and_gets_them_back() -> Outcome {
        let connections = connections(3);
        let held = begin(&connections, "192.0.2.1", 5)?;
        assert_eq!(held.len(), 3);
        assert_eq!(begin(&connections, "192.0.2.2", 5)?.len(), 3);
        drop(held);
        assert_eq!(begin(&connections, "192.0.2.1", 5)?.len(), 3);
        let left = connections.handshakes.under_way.lock();
        assert!(left.is_ok_and(|left| left.is_empty()));
        Ok(())
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address_and_a_mapped_one_as_ipv4() -> Outcome {
        let connections = connections(3);
        let _held = begin(&connections, "2001:db8::1", 3)?;
        assert!(begin(&connections, "2001:db8::ffff:2", 1)?.is_empty());
        assert_eq!(begin(&connections, "2001:db8:0:1::1", 1)?.len(), 1);
        let _mapped = begin(&connections, "::ffff:192.0.2.1", 3)?;
        assert!(begin(&connections, "192.0.2.1", 1)?.is_empty());
        Ok(())
    }

    #[test]
    fn proxies_are_not_counted_and_no_address_gets_more_than_a_quarter() -> Outcome {
        let connections = connections(1000);
        assert_eq!(begin(&connections, "10.1.2.3", 200)?.len(), 200);
        assert_eq!(begin(&connections, "192.0.2.1", 200)?.len(), 25);
        Ok(())
    }
}
