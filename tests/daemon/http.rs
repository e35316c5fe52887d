//! Answers to clients, for good and bad requests.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
};

use reqwest::Method;

use crate::support::Daemon;

#[tokio::test]
async fn every_documented_get_answers_head_alike() {
    let daemon = Daemon::spawn().await;
    daemon.until("/ready", 200).await;
    let document = daemon.json("/openapi.json").await.1;
    for (path, item) in document["paths"].as_object().unwrap() {
        if item["get"].is_null() || path.contains('{') {
            continue;
        }
        let get = daemon.get(path).await;
        let head = daemon.request(Method::HEAD, path).await;
        assert_eq!(
            (head.status(), &head.headers()["content-type"]),
            (get.status(), &get.headers()["content-type"]),
            "{path}"
        );
        assert!(head.bytes().await.unwrap().is_empty(), "{path}");
    }
}

/// What changes or deletes something without `If-Match`. A route that joins them is a decision.
const WITHOUT_IF_MATCH: [&str; 4] = [
    // All that are left are meant, however many were used since the client looked.
    "DELETE /api/v1/auth/me/factors/recovery-codes",
    // tus 1.0 has headers of its own: `Upload-Offset` says what the client has seen.
    "DELETE /api/v1/files/tus/{id}",
    // A browser knows nothing of its subscription but the endpoint.
    "DELETE /api/v1/push/subscriptions",
    "PATCH /api/v1/files/tus/{id}",
];

#[tokio::test]
async fn what_changes_or_deletes_an_object_requires_the_version_that_was_seen() {
    let daemon = Daemon::spawn().await;
    daemon.until("/ready", 200).await;
    let document = daemon.json("/openapi.json").await.1;
    let (mut with, mut without) = (BTreeSet::new(), BTreeSet::new());
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in ["patch", "delete"].iter().filter(|it| !item[it].is_null()) {
            let parameters = item[method]["parameters"].as_array();
            let is_required = parameters.is_some_and(|all| {
                all.iter()
                    .any(|it| it["name"] == "If-Match" && it["required"] == true)
            });
            let kind = if is_required { &mut with } else { &mut without };
            kind.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    assert_eq!(without, WITHOUT_IF_MATCH.map(str::to_owned).into());
    assert!(with.len() > 20, "{with:?}");
}

#[tokio::test]
async fn the_documentation_loads_nothing_from_elsewhere() {
    let daemon = Daemon::spawn().await;
    for path in ["/docs", "/docs/", "/redoc"] {
        let response = daemon.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        let policy = response.headers()["content-security-policy"]
            .to_str()
            .unwrap()
            .to_owned();
        assert!(
            policy.contains("default-src 'none'") || policy.contains("default-src 'self'"),
            "{path}: {policy}"
        );
        let page = response.text().await.unwrap();
        for attribute in ["src=\"http", "href=\"http", "src=\"//", "href=\"//"] {
            assert!(!page.contains(attribute), "{path} has {attribute}");
        }
    }
}

#[tokio::test]
async fn in_production_there_is_no_documentation_unless_asked_for() {
    let production = || {
        Daemon::builder()
            .env("DOTMAC_ENVIRONMENT", "production")
            .env("DOTMAC_APP_SECRET_KEY", "0123456789abcdef0123456789abcdef")
            .env("DOTMAC_DATABASE_ALLOW_SQLITE", "true")
            .without(&["accounts", "webhooks"])
            .env("DOTMAC_SHUTDOWN_DRAIN_DELAY", "0s")
    };
    let (hidden, shown) = tokio::join!(
        production().spawn(),
        production().env("DOTMAC_DOCS_ENABLED", "true").spawn()
    );
    for path in ["/docs", "/redoc", "/openapi.json", "/asyncapi.json"] {
        assert_eq!(hidden.get(path).await.status(), 404, "{path}");
        assert_eq!(shown.get(path).await.status(), 200, "{path}");
    }
}

#[tokio::test]
async fn other_origins_are_let_in_by_the_settings_only() {
    let daemon = Daemon::builder()
        .env("DOTMAC_CORS_ORIGINS", "https://app.example.org")
        .spawn()
        .await;
    let ask = |origin: &'static str| {
        daemon
            .client
            .get(format!("{}/", daemon.base))
            .header("origin", origin)
            .send()
    };
    let friend = ask("https://app.example.org").await.unwrap();
    assert_eq!(
        friend.headers()["access-control-allow-origin"],
        "https://app.example.org"
    );
    let stranger = ask("https://evil.example").await.unwrap();
    assert_eq!(stranger.status(), 403);
    assert_eq!(
        stranger.headers()["content-type"],
        "application/problem+json"
    );
}

#[tokio::test]
async fn in_development_any_port_of_localhost_is_a_friend() {
    let daemon = Daemon::spawn().await;
    let asked = daemon
        .client
        .get(format!("{}/", daemon.base))
        .header("origin", "http://localhost:5173")
        .send()
        .await
        .unwrap();
    assert_eq!(
        asked.headers()["access-control-allow-origin"],
        "http://localhost:5173"
    );
}

#[tokio::test]
async fn wildcard_origins_with_credentials_are_refused_at_the_start() {
    let stopped = Daemon::builder()
        .env("DOTMAC_CORS_ORIGINS", "*")
        .env("DOTMAC_CORS_CREDENTIALS", "true")
        .run(&[])
        .await;
    assert_eq!(stopped.code, 78, "{}", stopped.text());
}

#[tokio::test]
async fn long_answers_are_compressed_as_asked() {
    let daemon = Daemon::spawn().await;
    for encoding in ["gzip", "zstd"] {
        let request = daemon
            .client
            .get(format!("{}/openapi.json", daemon.base))
            .header("accept-encoding", encoding);
        assert_eq!(
            request.send().await.unwrap().headers()["content-encoding"],
            encoding
        );
    }
}

#[tokio::test]
async fn garbage_forges_no_line_and_stops_no_client() {
    let daemon = Daemon::spawn().await;
    let address = daemon.base.strip_prefix("http://").unwrap().to_owned();
    let huge = format!(
        "GET / HTTP/1.1\r\nhost: x\r\n{}\r\n",
        "x-padding: 0123456789abcdef\r\n".repeat(40_000)
    );
    let sent: [&[u8]; 6] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not http at all\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /%0a{\"level\":\"ERROR\",\"message\":\"forged\"} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nx-request-id: a\x0bb{\"forged\":1}\r\nconnection: close\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999\r\n\r\n",
        huge.as_bytes(),
    ];
    for bytes in sent {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        stream
            .set_read_timeout(Some(crate::support::PATIENCE))
            .unwrap();
        // The server may hang up before all is written: that is an answer, too.
        stream.write_all(bytes).ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{answer}"
        );
    }
    assert_eq!(daemon.get("/health").await.status(), 200);
    let stopped = daemon.stop().await;
    for line in &stopped.lines {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_ne!(line["message"], "forged");
        assert_ne!(
            line["level"], "ERROR",
            "a client must not raise errors: {line}"
        );
    }
}
