//! Which clients are counted together, and what they get.

use super::*;

#[test]
fn a_client_is_an_ipv4_address_or_an_ipv6_network_of_64_bits() {
    for (address, expected) in [
        ("192.0.2.9", "192.0.2.9"),
        ("::ffff:192.0.2.9", "192.0.2.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
    ] {
        let address: Result<IpAddr, _> = address.parse();
        assert_eq!(
            address.map(|it| network(it).to_string()),
            Ok(expected.to_owned())
        );
    }
}

#[test]
fn a_wide_network_has_24_or_48_bits() {
    for (address, expected) in [
        ("192.0.2.9", "192.0.2.0"),
        ("::ffff:192.0.2.9", "192.0.2.0"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
    ] {
        let address: Result<IpAddr, _> = address.parse();
        assert_eq!(
            address.map(|it| wide_network(it).to_string()),
            Ok(expected.to_owned())
        );
    }
}

#[test]
fn a_limit_is_never_nothing_and_never_endless() {
    let limit = RateLimit::per_network(0, Duration::ZERO);
    assert_eq!((limit.quota.requests, limit.quota.window.as_secs()), (1, 1));
    let limit = RateLimit::per_principal(5, Duration::MAX);
    assert_eq!(limit.quota.window.as_secs(), LONGEST_WINDOW);
}

#[test]
fn headers_are_structured_fields() {
    let verdict = Verdict {
        left: 3,
        whole_in: Duration::from_millis(14_001),
        refused_for: None,
    };
    let limits = Limits(vec![
        (
            RateLimit::per_network(9, Duration::from_secs(10))
                .named("login")
                .burst(20),
            verdict,
        ),
        (
            RateLimit::per_principal(4, Duration::from_secs(60)),
            verdict,
        ),
    ]);
    let headers = limits
        .headers()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or_default()));
    let expected = [
        r#"ratelimit-policy: "login";q=9;w=10, "principal";q=4;w=60"#,
        r#"ratelimit: "login";r=3;t=15, "principal";r=3;t=15"#,
    ];
    assert_eq!(headers.collect::<Vec<_>>(), expected);
}
