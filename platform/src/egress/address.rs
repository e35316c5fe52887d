//! Classes of addresses: by default only public ones are called.
//!
//! The networks are those of the IANA registries "IPv4 Special-Purpose Address Space" and "IPv6 Special-Purpose
//! Address Space" (RFC 6890 and its successors), with the addresses of cloud metadata services added. Of IPv6 what
//! the registry "IPv6 Global Unicast Address Assignments" may assign, `2000::/3`, can be public, and nothing else.
//!
//! An IPv6 address that carries IPv4 addresses is judged by those, since a packet to it can arrive there.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{Ipv4Net, Ipv6Net};

/// The class of the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AddressClass {
    /// Of a host on the Internet.
    Public,
    /// Of a cloud's metadata service, which gives out credentials.
    Metadata,
    /// Of no host: `0.0.0.0/8`, `::`. Many systems take it for loopback.
    Unspecified,
    /// Of this machine: `127.0.0.0/8`, `::1`.
    Loopback,
    /// Of a private network: RFC 1918, the shared space of carriers (RFC 6598), unique local addresses (RFC 4193).
    Private,
    /// Of the same link: `169.254.0.0/16`, `fe80::/10`.
    LinkLocal,
    /// Of a group of hosts, or of all: `224.0.0.0/4`, `ff00::/8`, `255.255.255.255`.
    Multicast,
    /// Kept for documentation, measurement, protocols or the future.
    Reserved,
}

impl AddressClass {
    /// The class as one word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Metadata => "metadata",
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link_local",
            Self::Multicast => "multicast",
            Self::Reserved => "reserved",
        }
    }

    /// The class of `address`. One that carries others has the first class of theirs that is not public.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => of_v4(address),
            IpAddr::V6(address) => {
                let carried = carried_by(address);
                if carried.is_empty() {
                    return of_v6(address);
                }
                let mut classes = carried.into_iter().map(of_v4);
                classes
                    .find(|class| *class != Self::Public)
                    .unwrap_or(Self::Public)
            }
        }
    }
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The addresses at which a packet to `address` can arrive: itself, and for IPv6 those that it carries.
pub(super) fn unfolded(address: IpAddr) -> Vec<IpAddr> {
    match address {
        IpAddr::V6(v6) => match carried_by(v6) {
            carried if carried.is_empty() => vec![address],
            carried => carried.into_iter().map(IpAddr::V4).collect(),
        },
        IpAddr::V4(_) => vec![address],
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(head: [u16; 4], prefix: u8) -> Ipv6Net {
    let [a, b, c, d] = head;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), prefix)
}

/// The first network that has an address in it decides its class.
const V4: [(Ipv4Net, AddressClass); 21] = [
    (v4(169, 254, 169, 254, 32), AddressClass::Metadata), // AWS, Azure, GCP, OpenStack and others
    (v4(169, 254, 170, 0, 24), AddressClass::Metadata),   // credentials of AWS tasks and pods
    (v4(100, 100, 100, 200, 32), AddressClass::Metadata), // Alibaba Cloud
    (v4(168, 63, 129, 16, 32), AddressClass::Metadata),   // Azure, "WireServer"
    (v4(192, 0, 0, 192, 32), AddressClass::Metadata),     // Oracle Cloud
    (v4(0, 0, 0, 0, 8), AddressClass::Unspecified),
    (v4(127, 0, 0, 0, 8), AddressClass::Loopback),
    (v4(10, 0, 0, 0, 8), AddressClass::Private),
    (v4(172, 16, 0, 0, 12), AddressClass::Private),
    (v4(192, 168, 0, 0, 16), AddressClass::Private),
    (v4(100, 64, 0, 0, 10), AddressClass::Private),
    (v4(169, 254, 0, 0, 16), AddressClass::LinkLocal),
    (v4(224, 0, 0, 0, 4), AddressClass::Multicast),
    (v4(255, 255, 255, 255, 32), AddressClass::Multicast),
    (v4(192, 0, 0, 0, 24), AddressClass::Reserved), // protocol assignments
    (v4(192, 0, 2, 0, 24), AddressClass::Reserved), // documentation, with the next two networks
    (v4(198, 51, 100, 0, 24), AddressClass::Reserved),
    (v4(203, 0, 113, 0, 24), AddressClass::Reserved),
    (v4(198, 18, 0, 0, 15), AddressClass::Reserved), // measurement
    (v4(192, 88, 99, 0, 24), AddressClass::Reserved), // relays of 6to4, withdrawn (RFC 7526)
    (v4(240, 0, 0, 0, 4), AddressClass::Reserved),   // the future
];

/// The first network that has an address in it decides its class.
const V6: [(Ipv6Net, AddressClass); 13] = [
    (v6([0xfd00, 0xec2, 0, 0], 64), AddressClass::Metadata), // AWS
    (v6([0xfd20, 0xce, 0, 0], 64), AddressClass::Metadata),  // GCP
    (
        Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128),
        AddressClass::Unspecified,
    ),
    (
        Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128),
        AddressClass::Loopback,
    ),
    (v6([0xfc00, 0, 0, 0], 7), AddressClass::Private),
    (v6([0xfec0, 0, 0, 0], 10), AddressClass::Private), // site-local, withdrawn (RFC 3879)
    (v6([0xfe80, 0, 0, 0], 10), AddressClass::LinkLocal),
    (v6([0xff00, 0, 0, 0], 8), AddressClass::Multicast),
    (v6([0x2001, 0, 0, 0], 23), AddressClass::Reserved), // protocol assignments
    (v6([0x2001, 0xdb8, 0, 0], 32), AddressClass::Reserved), // documentation, with the next network
    (v6([0x3fff, 0, 0, 0], 20), AddressClass::Reserved),
    (v6([0x2620, 0x4f, 0x8000, 0], 48), AddressClass::Reserved), // AS112, which answers for private networks
    (v6([0x2000, 0, 0, 0], 3), AddressClass::Public),
];

/// Prefixes of 96 bits behind which an IPv4 address stands: compatible (RFC 4291, withdrawn), mapped (RFC 4291),
/// translated (RFC 2765), NAT64 (RFC 6052).
const CARRIERS_OF_96: [Ipv6Net; 4] = [
    Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 96),
    Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
    Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96),
    v6([0x64, 0xff9b, 0, 0], 96),
];

/// 6to4 (RFC 3056): the address of the site's router behind 16 bits.
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0], 16);

/// Teredo (RFC 4380): the address of the server, and that of the client inverted.
const TEREDO: Ipv6Net = v6([0x2001, 0, 0, 0], 32);

/// The IPv4 addresses in `address`; none in most.
fn carried_by(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let octets = address.octets();
    let at = |place: usize| {
        Ipv4Addr::new(
            octets[place],
            octets[place + 1],
            octets[place + 2],
            octets[place + 3],
        )
    };
    if address.is_unspecified() || address.is_loopback() {
        Vec::new()
    } else if CARRIERS_OF_96.iter().any(|net| net.contains(&address)) {
        vec![at(12)]
    } else if SIX_TO_FOUR.contains(&address) {
        vec![at(2)]
    } else if TEREDO.contains(&address) {
        vec![at(4), Ipv4Addr::from_bits(!at(12).to_bits())]
    } else {
        Vec::new()
    }
}

fn of_v4(address: Ipv4Addr) -> AddressClass {
    let found = V4.iter().find(|(net, _)| net.contains(&address));
    found.map_or(AddressClass::Public, |(_, class)| *class)
}

fn of_v6(address: Ipv6Addr) -> AddressClass {
    let found = V6.iter().find(|(net, _)| net.contains(&address));
    found.map_or(AddressClass::Reserved, |(_, class)| *class)
}
