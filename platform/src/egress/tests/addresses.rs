//! Which addresses are public.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::super::AddressClass::{self, *};

fn class(address: &str) -> AddressClass {
    AddressClass::of(address.parse().unwrap())
}

#[test]
fn every_network_of_the_registries_has_its_class() {
    for (address, expected) in [
        ("0.0.0.0", Unspecified),
        ("0.1.2.3", Unspecified),
        ("10.0.0.1", Private),
        ("100.64.0.1", Private),
        ("100.127.255.255", Private),
        ("127.0.0.1", Loopback),
        ("127.255.255.254", Loopback),
        ("169.254.0.1", LinkLocal),
        ("172.16.0.1", Private),
        ("172.31.255.255", Private),
        ("192.0.0.1", Reserved),
        ("192.0.2.1", Reserved),
        ("192.88.99.1", Reserved),
        ("192.168.1.1", Private),
        ("198.18.0.1", Reserved),
        ("198.19.255.255", Reserved),
        ("198.51.100.1", Reserved),
        ("203.0.113.1", Reserved),
        ("224.0.0.1", Multicast),
        ("239.255.255.255", Multicast),
        ("240.0.0.1", Reserved),
        ("255.255.255.255", Multicast),
        ("169.254.169.254", Metadata),
        ("169.254.170.2", Metadata),
        ("100.100.100.200", Metadata),
        ("168.63.129.16", Metadata),
        ("192.0.0.192", Metadata),
        ("::", Unspecified),
        ("::1", Loopback),
        ("fe80::1", LinkLocal),
        ("febf::1", LinkLocal),
        ("fec0::1", Private),
        ("fc00::1", Private),
        ("fd12:3456::1", Private),
        ("fd00:ec2::254", Metadata),
        ("fd20:ce::254", Metadata),
        ("ff02::1", Multicast),
        ("100::1", Reserved),
        ("64:ff9b:1::10.0.0.1", Reserved),
        ("2001:2::1", Reserved),
        ("2001:20::1", Reserved),
        ("2001:db8::1", Reserved),
        ("3fff::1", Reserved),
        ("5f00::1", Reserved),
        ("4000::1", Reserved),
        ("2620:4f:8000::1", Reserved),
    ] {
        assert_eq!(class(address), expected, "{address}");
    }
}

#[test]
fn the_neighbours_of_those_networks_are_public() {
    for address in [
        "1.0.0.0",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "168.63.129.15",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "203.0.112.255",
        "203.0.114.0",
        "223.255.255.255",
        "2001:200::1",
        "2001:db7:ffff::1",
        "2001:db9::1",
        "2606:4700:4700::1111",
        "3ffe:ffff::1",
    ] {
        assert_eq!(class(address), Public, "{address}");
    }
}

#[test]
fn an_address_that_carries_others_is_judged_by_them() {
    for (address, expected) in [
        ("::ffff:127.0.0.1", Loopback),
        ("::ffff:169.254.169.254", Metadata),
        ("::ffff:8.8.8.8", Public),
        ("::127.0.0.1", Loopback),
        ("::10.0.0.1", Private),
        ("::ffff:0:192.168.0.1", Private),
        ("64:ff9b::10.0.0.1", Private),
        ("64:ff9b::a9fe:a9fe", Metadata),
        ("64:ff9b::8.8.8.8", Public),
        ("2002:7f00:1::", Loopback),
        ("2002:a9fe:a9fe::1", Metadata),
        ("2002:808:808::1", Public),
        // Teredo: the server's address, and the client's inverted.
        ("2001:0:a00:1::f7f7:f7f7", Private),
        ("2001:0:808:808::f5ff:fffe", Private),
        ("2001:0:808:808::5601:5601", Metadata),
        ("2001:0:808:808::f7f7:f7f7", Public),
    ] {
        assert_eq!(class(address), expected, "{address}");
    }
}

/// Every IPv6 address that carries `address`.
fn carriers(address: Ipv4Addr) -> Vec<Ipv6Addr> {
    let [a, b, c, d] = address.octets();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    vec![
        Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low),
        Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0x2001, 0, 0x808, 0x808, 0, 0, !high, !low),
        Ipv6Addr::new(0x2001, 0, high, low, 0, 0, !0x808, !0x808),
    ]
}

proptest! {
    #[test]
    fn no_carrier_changes_the_class_of_what_it_carries(bits in any::<u32>()) {
        let address = Ipv4Addr::from_bits(bits);
        for carrier in carriers(address) {
            prop_assert_eq!(AddressClass::of(carrier.into()), AddressClass::of(address.into()), "{}", carrier);
        }
    }

    #[test]
    fn what_std_knows_to_be_special_is_never_public(bits in any::<u32>()) {
        let address = Ipv4Addr::from_bits(bits);
        let is_special = address.is_private()
            || address.is_loopback()
            || address.is_link_local()
            || address.is_multicast()
            || address.is_broadcast()
            || address.is_documentation()
            || address.is_unspecified();
        prop_assert!(!is_special || AddressClass::of(IpAddr::V4(address)) != Public, "{}", address);
    }

    #[test]
    fn nothing_outside_of_global_unicast_is_public_but_what_carries_a_public_address(bits in any::<u128>()) {
        let address = Ipv6Addr::from_bits(bits);
        let is_global_unicast = address.segments()[0] & 0xe000 == 0x2000;
        let carries = address.segments()[..5] == [0; 5] || address.segments()[..2] == [0x64, 0xff9b];
        prop_assert!(
            is_global_unicast || carries || AddressClass::of(IpAddr::V6(address)) != Public,
            "{}", address
        );
    }
}
