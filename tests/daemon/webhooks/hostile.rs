//! Receivers of every hostile kind: what a name resolves to, where they redirect, how they answer. Names are asked of our own DNS
//! server.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use serde_json::{Value, json};

use super::{client, receiver, until_asked, webhooks};
use crate::{
    events::ONE,
    support::{
        dns::FakeDns,
        fakes::{FakeHttpServer, write_answer},
    },
};

/// Names, what they resolve to, and what becomes of a call: the code of its error, and the address that is blocked.
const VERDICTS: [(&str, &[&str], &str, &str); 16] = [
    ("loopback", &["127.0.0.1"], "blocked_address", "127.0.0.1"),
    ("private-a", &["10.1.2.3"], "blocked_address", "10.1.2.3"),
    (
        "private-b",
        &["172.16.0.1"],
        "blocked_address",
        "172.16.0.1",
    ),
    (
        "private-c",
        &["192.168.1.1"],
        "blocked_address",
        "192.168.1.1",
    ),
    ("carrier", &["100.64.0.1"], "blocked_address", "100.64.0.1"),
    (
        "link-local",
        &["169.254.1.1"],
        "blocked_address",
        "169.254.1.1",
    ),
    (
        "metadata",
        &["169.254.169.254"],
        "blocked_address",
        "169.254.169.254",
    ),
    ("unspecified", &["0.0.0.0"], "blocked_address", "0.0.0.0"),
    ("multicast", &["224.0.0.1"], "blocked_address", "224.0.0.1"),
    ("loopback6", &["::1"], "blocked_address", "::1"),
    ("unique-local", &["fd00::1"], "blocked_address", "fd00::1"),
    (
        "mapped",
        &["::ffff:10.0.0.1"],
        "blocked_address",
        "::ffff:10.0.0.1",
    ),
    (
        "nat64",
        &["64:ff9b::7f00:1"],
        "blocked_address",
        "64:ff9b::7f00:1",
    ),
    (
        "6to4",
        &["2002:a00:1::1"],
        "blocked_address",
        "2002:a00:1::1",
    ),
    // One address that is blocked blocks them all.
    (
        "mixed",
        &["93.184.216.34", "10.0.0.1"],
        "blocked_address",
        "10.0.0.1",
    ),
    ("nowhere", &[], "not_resolved", ""),
];

#[tokio::test]
async fn what_a_name_resolves_to_is_judged_at_each_attempt() {
    let Some(dns) = FakeDns::start(|name, _| {
        let found = VERDICTS.iter().find(|it| name == format!("{}.test", it.0));
        let addresses = found.map_or(&[][..], |it| it.1);
        addresses.iter().map(|it| it.parse().unwrap()).collect()
    }) else {
        return;
    };
    let daemon = webhooks("sqlite:dotmac.db")
        .env("DOTMAC_ENVIRONMENT", "staging")
        .env("DOTMAC_DATABASE_ALLOW_SQLITE", true)
        .resolver(&dns)
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    let mut made = Vec::new();
    for (name, ..) in VERDICTS {
        made.push(
            one.webhook(&format!("http://{name}.test/"), &["custom.*"])
                .await,
        );
    }
    one.event("custom.order.paid.v1", json!({})).await;
    for ((name, _, code, address), webhook) in VERDICTS.iter().zip(&made) {
        let failed = one.until_deliveries(webhook, "failed", 1).await;
        let detail = one.detail(&failed[0]).await;
        let attempts = detail["attempts"].as_array().unwrap();
        let error = attempts[0]["error"].as_str().unwrap();
        assert!(error.starts_with(&format!("{code}: ")), "{name}: {error}");
        match *code {
            // Another attempt would be of no use.
            "blocked_address" => {
                assert_eq!(attempts.len(), 1, "{name}: {detail}");
                assert_eq!(attempts[0]["address"], *address, "{name}");
            }
            _ => assert_eq!(attempts.len(), 4, "{name}: {detail}"),
        }
    }
}

#[tokio::test]
async fn a_name_that_changes_meanwhile_is_called_at_what_was_judged_or_not_at_all() {
    // An operator opened one address; the name has it the first time, and another one from then on.
    let (open, closed) = (Ipv4Addr::new(127, 0, 0, 5), Ipv4Addr::new(127, 0, 0, 6));
    let listener = std::net::TcpListener::bind((open, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let trap = std::net::TcpListener::bind((closed, port)).unwrap();
    trap.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // All of the request first: what is left unread would have the answer lost.
            let patience = Some(Duration::from_millis(200));
            stream.set_read_timeout(patience).unwrap();
            while stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {}
            stream
                .write_all(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                .ok();
        }
    });
    let Some(dns) =
        FakeDns::start(move |_, number| vec![IpAddr::V4(if number == 0 { open } else { closed })])
    else {
        return;
    };
    let daemon = webhooks("sqlite:dotmac.db")
        .env("DOTMAC_ENVIRONMENT", "staging")
        .env("DOTMAC_DATABASE_ALLOW_SQLITE", true)
        .env("DOTMAC_EGRESS_ALLOW", "127.0.0.5")
        .resolver(&dns)
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    let webhook = one
        .webhook(&format!("http://rebind.test:{port}/"), &["custom.*"])
        .await;
    one.event("custom.order.paid.v1", json!({})).await;
    let failed = one.until_deliveries(&webhook, "failed", 1).await;
    let detail = one.detail(&failed[0]).await;
    let attempts = detail["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2, "{detail}");
    let error = attempts[0]["error"].as_str().unwrap();
    assert!(error.starts_with("blocked_address: "), "{error}");
    assert_eq!(attempts[0]["address"], "127.0.0.6");
    assert_eq!(
        (&attempts[1]["status"], &attempts[1]["address"]),
        (&json!(500), &json!("127.0.0.5"))
    );
    // One question for each family and attempt: the connection does not ask again.
    assert_eq!(dns.asked("rebind.test"), 4);
    assert!(trap.accept().is_err(), "the blocked address was called");
}

#[tokio::test]
async fn no_answer_keeps_more_than_its_bound_or_longer_than_its_time() {
    let daemon = webhooks("sqlite:dotmac.db")
        .env("DOTMAC_WEBHOOKS_TIMEOUT", "5s")
        .env("DOTMAC_EGRESS_TIMEOUT", "500ms")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    // A kilobyte that would be a megabyte unpacked: it is kept as it came.
    let bomb = FakeHttpServer::start(|_, stream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 1030\r\n\r\n";
        stream.write_all(head.as_bytes())?;
        stream.write_all(&[0x1f, 0x8b, 8, 0, 0, 0])?;
        stream.write_all(&[0; 1024])
    });
    let endless = FakeHttpServer::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
        loop {
            stream.write_all(b"2000\r\n")?;
            stream.write_all(&[b'x'; 0x2000])?;
            stream.write_all(b"\r\n")?;
        }
    });
    let dripping = FakeHttpServer::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")?;
        loop {
            stream.write_all(b"x")?;
            std::thread::park_timeout(Duration::from_millis(50));
        }
    });
    let headers = FakeHttpServer::start(|_, stream| {
        let many: String = (0..60)
            .map(|number| format!("x-{number}: {}\r\n", "y".repeat(900)))
            .collect();
        write_answer(stream, &format!("200 OK\r\n{}", many.trim_end()), "")
    });
    let redirect =
        receiver("307 Temporary Redirect\r\nlocation: http://169.254.169.254/latest/meta-data");
    let nonsense = FakeHttpServer::start(|_, stream| stream.write_all(b"SSH-2.0-OpenSSH\r\n\r\n"));
    let old = FakeHttpServer::start(|_, stream| {
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nold")?;
        Err(std::io::Error::other("the connection ends here"))
    });
    let mut made = Vec::new();
    for (server, state, what) in [
        (&bomb, "delivered", ""),
        (&endless, "delivered", ""),
        (&dripping, "failed", "timeout: "),
        (&headers, "delivered", ""),
        (&redirect, "failed", "refused: the receiver answered 307"),
        (&nonsense, "failed", "connection_failed: "),
        (&old, "delivered", ""),
    ] {
        made.push((
            one.webhook(&server.address(), &["custom.*"]).await,
            state,
            what,
        ));
    }
    one.event("custom.order.paid.v1", json!({})).await;
    for (webhook, state, what) in &made {
        let ended = one.until_deliveries(webhook, state, 1).await;
        let detail = one.detail(&ended[0]).await;
        let attempt = &detail["attempts"][0];
        let error = attempt["error"].as_str().unwrap_or_default();
        assert!(error.starts_with(what), "{error}");
        let body = attempt["response_body"].as_str().unwrap_or_default();
        assert!(body.len() <= 8192, "{}", body.len());
        let kept: usize = attempt["response_headers"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| name.len() + value.as_str().map_or(0, str::len))
            .sum();
        assert!(kept <= 8192, "{kept}");
    }
    until_asked(&redirect, 1).await;
}

#[tokio::test]
async fn a_body_that_is_too_large_fails_with_its_reason() {
    let daemon = webhooks("sqlite:dotmac.db")
        .env("DOTMAC_HTTP_BODY_LIMIT", "1MiB")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let (mine, one) = (receiver("204 No Content"), client(&daemon, ONE));
    let webhook = one.webhook(&mine.address(), &["custom.*"]).await;
    // As much as an event may have, to the byte; the envelope comes on top.
    let data = json!({ "text": "x".repeat(64 * 1024 - r#"{"text":""}"#.len()) });
    one.event("custom.order.paid.v1", data).await;
    let failed = one.until_deliveries(&webhook, "failed", 1).await;
    let error = failed[0]["last_error"].as_str().unwrap();
    assert!(error.starts_with("payload_too_large"), "{error}");
    // Restarted it fails in the same way, and is not sent.
    let id = failed[0]["id"].as_str().unwrap();
    one.post(&format!("{}/{id}/replay", super::DELIVERIES), Value::Null)
        .await;
    one.until_deliveries(&webhook, "failed", 1).await;
    assert!(mine.asked().is_empty());
}
