//! Where calls go, and where they never do.

use std::{net::IpAddr, sync::Arc};

use dotmac_testkit::fakes::{FakeHttpServer, write_answer};
use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::egress::{AddressClass, EgressError};

fn greeting() -> FakeHttpServer {
    FakeHttpServer::start(|_, stream| write_answer(stream, "200 OK", "hello"))
}

#[tokio::test]
async fn a_name_that_means_loopback_the_next_moment_is_called_at_the_judged_address_alone() {
    // The operator's network stands in for the Internet: a public address first, loopback afterwards.
    let judged = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let port = judged.local_addr().unwrap().port();
    let loopback = TcpListener::bind((LOOPBACK, port)).await.unwrap();
    let answering = tokio::spawn(async move {
        let (mut stream, _) = judged.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream
            .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
            .await
            .unwrap();
        (stream, judged)
    });
    let lookup = FakeLookup::new(|_, before| match before {
        0 => vec![IpAddr::from([127, 0, 0, 2])],
        _ => vec![LOOPBACK],
    });
    let egress = egress(production(&["127.0.0.2"]), &lookup);
    let url = format!("http://rebinding.example:{port}/");
    let answer = egress.get(&url).send().await.unwrap();
    assert_eq!(answer.status, 204);
    assert_eq!(lookup.asked(), 1, "the connection asked once more");
    answering.await.unwrap();

    let error = egress.get(&url).send().await.unwrap_err();
    assert_eq!(
        (error.code(), error.is_retryable()),
        ("blocked_address", false)
    );
    assert_eq!(lookup.asked(), 2);
    let knocking = tokio::time::timeout(Duration::from_millis(50), loopback.accept()).await;
    assert!(knocking.is_err(), "loopback was called");
}

#[tokio::test]
async fn one_blocked_address_of_a_name_blocks_them_all() {
    for addresses in [["8.8.8.8", "127.0.0.1"], ["2606:4700::1111", "fe80::1"]] {
        let addresses = addresses.map(|it| it.parse::<IpAddr>().unwrap());
        let lookup = FakeLookup::new(move |_, _| addresses.to_vec());
        let egress = egress(production(&[]), &lookup);
        let error = egress.get("https://two.example").send().await.unwrap_err();
        assert_eq!(error.code(), "blocked_address");
    }
}

#[tokio::test]
async fn an_address_in_any_notation_is_judged_without_a_resolver() {
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "017700000001",
        "0177.0.0.01",
        "127.0.0.1.",
        "１２７.0.0.1",
        "127。0。0。1",
        "0",
        "0.0.0.0",
        "10.0.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "0xa9fea9fe",
        "2852039166",
        "[::]",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:169.254.169.254]",
        "[::127.0.0.1]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:7f00:1::]",
        "[2001:0:808:808::5601:5601]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[ff02::1]",
    ] {
        let lookup = FakeLookup::new(|name, _| panic!("`{name}` was looked up"));
        let egress = egress(production(&[]), &lookup);
        let url = format!("https://{host}/latest/meta-data");
        let error = egress.get(&url).send().await.unwrap_err();
        assert_eq!(
            (error.code(), error.is_retryable()),
            ("blocked_address", false),
            "{url}"
        );
        assert_eq!(egress.check_url(&url), Err(error), "{url}");
    }
}

#[tokio::test]
async fn what_is_no_url_to_call_is_refused() {
    let lookup = FakeLookup::new(|name, _| panic!("`{name}` was looked up"));
    let egress = egress(development(), &lookup);
    for url in [
        "",
        "/path",
        "example.com",
        "ftp://example.com",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_INFO",
        "http://user@example.com",
        "http://user:password@example.com",
        "http://:password@example.com",
        "http://example.com@127.0.0.1",
        "http://",
        "http://example.com:0",
        "http://example..",
        "http://[fe80::1%25eth0]/",
        "http://256.256.256.256",
        &format!("http://example.com/{}", "a".repeat(8192)),
    ] {
        let error = egress.get(url).send().await.unwrap_err();
        assert_eq!(
            (error.code(), error.is_retryable()),
            ("invalid_url", false),
            "{url}"
        );
    }
}

#[tokio::test]
async fn ports_and_plain_http_are_those_of_the_environment() {
    let lookup = FakeLookup::new(|_, _| vec![IpAddr::from([8, 8, 8, 8])]);
    let code = |config: Config, url: &'static str| {
        let egress = egress(config, &lookup);
        async move { egress.get(url).send().await.map_err(|error| error.code()) }
    };
    for (url, expected) in [
        ("http://public.example", "insecure_url"),
        ("http://public.example:443", "insecure_url"),
        ("https://public.example:8443", "blocked_port"),
        ("https://public.example:22", "blocked_port"),
        ("https://public.example:80", "blocked_port"),
    ] {
        assert_eq!(
            code(production(&[]), url).await.unwrap_err(),
            expected,
            "{url}"
        );
    }
    let blocked = code(development(), "http://public.example:8080").await;
    assert_eq!(blocked.unwrap_err(), "blocked_port");
}

#[tokio::test]
async fn a_name_without_an_address_may_have_one_later() {
    let lookup = FakeLookup::new(|_, _| Vec::new());
    let egress = egress(production(&[]), &lookup);
    let error = egress
        .get("https://nowhere.example")
        .send()
        .await
        .unwrap_err();
    assert_eq!((error.code(), error.is_retryable()), ("not_resolved", true));
}

#[tokio::test]
async fn loopback_is_open_in_development_only() {
    let server = greeting();
    let url = format!("http://localhost:{}/", server.port);
    let answer = egress(development(), &everything_here())
        .get(&url)
        .send()
        .await;
    assert_eq!(answer.unwrap().body, "hello");
    let error = egress(production(&[]), &everything_here())
        .get(&url)
        .send()
        .await;
    let blocked = EgressError::BlockedAddress {
        host: "localhost".to_owned(),
        address: LOOPBACK,
        class: AddressClass::Loopback,
    };
    assert_eq!(error.unwrap_err(), blocked);
}

#[tokio::test]
async fn an_operator_opens_networks_addresses_hosts_and_ports() {
    let server = greeting();
    let (port, other) = (server.port, server.port.wrapping_add(1).max(1));
    let own = format!("127.0.0.1:{port}");
    let elsewhere = format!("127.0.0.1:{other}");
    let host = format!("hooks.internal:{port}");
    for (allow, is_open) in [
        ("127.0.0.0/8", true),
        ("127.0.0.1", true),
        (own.as_str(), true),
        (elsewhere.as_str(), false),
        ("hooks.internal", true),
        ("*.internal", true),
        (host.as_str(), true),
        ("internal", false),
        ("other.internal", false),
        ("10.0.0.0/8", false),
    ] {
        let egress = egress(production(&[allow]), &everything_here());
        let answer = egress
            .get(format!("http://Hooks.Internal.:{port}/"))
            .send()
            .await;
        assert_eq!(answer.is_ok(), is_open, "{allow}: {answer:?}");
    }
}

#[test]
fn a_metadata_service_is_opened_by_its_very_address_alone() {
    for (allow, is_open) in [
        ("169.254.169.254", true),
        ("169.254.0.0/16", false),
        ("0.0.0.0/0", false),
        ("::/0", false),
    ] {
        let egress = egress(production(&[allow]), &everything_here());
        for host in ["169.254.169.254", "[::ffff:169.254.169.254]"] {
            let verdict = egress.check_url(format!("http://{host}/"));
            assert_eq!(verdict.is_ok(), is_open, "{allow} {host}: {verdict:?}");
        }
    }
}

#[tokio::test]
async fn a_host_that_is_opened_by_its_name_does_not_open_a_metadata_service() {
    let lookup = FakeLookup::new(|_, _| vec![IpAddr::from([169, 254, 169, 254])]);
    let egress = egress(production(&["hooks.internal"]), &lookup);
    let error = egress
        .get("https://hooks.internal")
        .send()
        .await
        .unwrap_err();
    assert_eq!(error.code(), "blocked_address");
}

#[tokio::test]
async fn a_proxy_is_used_that_a_setting_names() {
    let proxy =
        FakeHttpServer::start(|request, stream| write_answer(stream, "200 OK", request.path()));
    let config = Config {
        proxy: Some(proxy.address().parse().unwrap()),
        ..development()
    };
    let lookup = FakeLookup::new(|_, _| vec![IpAddr::from([8, 8, 8, 8])]);
    let egress = egress(config, &lookup);
    let answer = egress
        .get("http://public.example/hook")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.body, "http://public.example/hook");
    let error = egress.get("http://10.0.0.1/").send().await.unwrap_err();
    assert_eq!(
        error.code(),
        "blocked_address",
        "a proxy is no way around the verdict"
    );
    assert_eq!(proxy.asked().len(), 1);
}

proptest! {
    #[test]
    fn no_text_is_called_at_an_address_that_is_not_public(text in "(https?://)?[0-9a-fx:.\\[\\]@%]{1,40}") {
        let egress = egress(production(&[]), &everything_here());
        if egress.check_url(&text).is_ok() {
            let url = url::Url::parse(&text).unwrap();
            let address = match url.host() {
                Some(url::Host::Ipv4(address)) => Some(IpAddr::from(address)),
                Some(url::Host::Ipv6(address)) => Some(address.into()),
                _ => None,
            };
            prop_assert!(address.is_none_or(|it| AddressClass::of(it) == AddressClass::Public), "{}", text);
        }
    }
}

#[test]
fn no_error_says_more_of_a_url_than_its_host() {
    let secret = "https://10.0.0.1/services/T0/B0/sekret?token=sekret";
    let egress = egress(production(&[]), &everything_here());
    let error = Arc::new(egress.check_url(secret).unwrap_err());
    assert!(!format!("{error} {error:?}").contains("sekret"));
}
