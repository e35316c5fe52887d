//! No secret that the daemon ever held is in anything that it emitted.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt};

use reqwest::Method;

use crate::support::{
    Daemon, OpenBao, Postgres, collector::Collector, eventually, leaks::Emitted,
    openbao::ROOT_TOKEN,
};

/// Otherwise a search that does not work would pass as a daemon that reveals nothing.
#[test]
fn a_planted_secret_is_found_in_whatever_spelling() {
    let secret = "p@ss \"wörd\"/+7\\";
    let spelt_by_others = [
        ("plain", r#"the password is p@ss "wörd"/+7\."#),
        ("escaped", r#"{"message":"p@ss \"wörd\"/+7\\"}"#),
        (
            "escaped",
            r#"{"body":"{\"message\":\"p@ss \\\"wörd\\\"/+7\\\\\"}"}"#,
        ),
        ("escaped", r#"{"message":"p@ss \"w\u00f6rd\"/+7\\"}"#),
        ("escaped", r#"Some("p@ss \"w\u{f6}rd\"/+7\\")"#),
        (
            "percent-encoded",
            "GET /?password=p%40ss%20%22w%C3%B6rd%22%2F%2B7%5C&x=100%",
        ),
        ("percent-encoded", "/p%40ss%20%22w%c3%b6rd%22/%2b7%5c"),
        (
            "percent-encoded",
            "password=p%40ss+%22w%C3%B6rd%22%2F%2B7%5C",
        ),
        ("base64", "Basic cEBzcyAid8O2cmQiLys3XDpyZXN0"),
        ("base64", "Basic dXBAc3MgInfDtnJkIi8rN1w6cmVzdA=="),
        ("base64", "Basic dXNwQHNzICJ3w7ZyZCIvKzdcOnJlc3Q="),
        ("base64", "eD4_cEBzcyAid8O2cmQiLys3XH4="),
        (
            "base64",
            "YSBsb25nIGxpbmUgb2Ygc29tZXRoaW5nIGVsc2UgdGhhdCBjb21lcyBiZWZvcmUgaXQgcEBzcyAi\n  \
             d8O2cmQiLys3XCBhbmQgbW9yZQ==",
        ),
        ("hexadecimal", "70407373202277c3b67264222f2b375c"),
        (
            "hexadecimal",
            "70 40 73 73 20 22 77 C3 B6 72 64 22 2F 2B 37 5C",
        ),
        (
            "hexadecimal",
            r"\x70\x40\x73\x73\x20\x22\x77\xc3\xb6\x72\x64\x22\x2f\x2b\x37\x5c",
        ),
        (
            "list of bytes",
            "bytes: [112, 64, 115, 115, 32, 34, 119, 195, 182, 114, 100, 34, 47, 43, 55, 92]",
        ),
        (
            "list of bytes",
            "[\n 112,\n 64,\n 115,\n 115,\n 32,\n 34,\n 119,\n 195,\n 182,\n 114,\n 100,\n 34,\n 47,\n 43,\n 55,\n 92,\n]",
        ),
    ];
    for (spelling, text) in spelt_by_others {
        let found = Emitted::new("here", text).betrays(secret);
        assert_eq!(found, Some(spelling), "{text}");
    }
    let innocent = r#"p@ss [redacted] "wörd"/+8\ 112, 64, 115, 115 cEBzcyAi 70407373"#;
    assert_eq!(Emitted::new("here", innocent).betrays(secret), None);
}

/// A run with all that can go right and wrong with secrets, at the most talkative level, with a collector.
/// The server's own audit log has the issued secrets, in clear.
#[tokio::test]
async fn no_secret_ever_held_is_in_anything_emitted() {
    let (bao, postgres, collector) =
        tokio::join!(OpenBao::start(), Postgres::start(), Collector::start());
    let mut settings = bao.set_up(&postgres, &[("TTL", "2s"), ("MAX_TTL", "3s")]);
    let files = tempfile::tempdir().unwrap();
    let mut own = BTreeSet::new();
    for (key, value) in &mut settings {
        // The secret id goes by a file, as it should: not even the environment has it.
        if key == "DOTMAC_VAULT_SECRET_ID" {
            let file = files.path().join("secret_id");
            fs::write(&file, &*value).unwrap();
            own.insert(std::mem::replace(value, file.display().to_string()));
            key.push_str("_FILE");
        }
    }
    // One that lies in the KV engine, and goes over the wire in a header.
    let header = "6f3c2a4e/a header that opens the collector";
    own.insert(header.to_owned());
    let value = format!("x-opens={}", header.replace(' ', "%20"));
    bao.write("database/collector", "value", &value).await;
    let socket = files.path().join("admin.sock");
    let mut builder = Daemon::example("chaos")
        .env("DOTMAC_TELEMETRY_LOG_LEVEL", "trace")
        .env("DOTMAC_VAULT_REFRESH_INTERVAL", "1s")
        .env("DOTMAC_ADMIN_SOCKET", socket.display())
        .env(
            "DOTMAC_TELEMETRY_OTLP_HEADERS",
            "vault:database/collector#value",
        )
        .env("DOTMAC_TELEMETRY_OTLP_ENDPOINT", collector.endpoint());
    for (key, value) in &settings {
        builder = builder.env(key, value);
    }
    let daemon = builder.spawn().await;
    daemon.until("/ready", 200).await;

    let rotated = async |at_least: f64| {
        let series = r#"dotmac_secret_rotations_total{result="applied",secret="database"}"#;
        eventually(&format!("{at_least} rotations"), || async {
            (daemon.metric(series).await? >= at_least).then_some(())
        })
        .await;
    };
    rotated(2.0).await;
    let mut emitted = Vec::new();
    let ask = async |emitted: &mut Vec<_>, method: Method, path: &str| {
        let answer = daemon.request(method, path).await;
        let headers = format!("{:?}", answer.headers());
        let body = answer.text().await.unwrap();
        emitted.push(Emitted::new(path, format!("{headers}\n{body}")));
    };
    // Another login, a refusal of it first, panics, a query that PostgreSQL refuses, a reload.
    let secret_id = files.path().join("secret_id");
    let right = fs::read_to_string(&secret_id).unwrap();
    let wrong = "6f1e6a52-wrong-secret-id-5b1c0a7f";
    own.insert(wrong.to_owned());
    fs::write(&secret_id, wrong).unwrap();
    bao.revoke("auth/approle").await;
    daemon
        .until_component("secrets", "degraded", Some("authentication_failed"))
        .await;
    ask(&mut emitted, Method::GET, "/ready").await;
    fs::write(&secret_id, right).unwrap();
    daemon.until_component("secrets", "ready", None).await;
    for path in ["panic", "panic-in-handler", "transaction?ms=1"] {
        ask(&mut emitted, Method::POST, &format!("/chaos/{path}")).await;
    }
    daemon.signal("HUP");
    daemon.logged("the secrets are unchanged").await;
    daemon.until("/ready", 200).await;

    // Not a secret, and present in all output: it shows that all of it is searched.
    let canary = "a-canary-5d1f0b7e9c";
    let nowhere = format!("/nowhere/{canary}");
    for path in [
        "/",
        "/health",
        "/health/startup",
        "/ready",
        "/metrics",
        "/openapi.json",
        "/docs",
        &nowhere,
    ] {
        ask(&mut emitted, Method::GET, path).await;
    }
    for command in ["status", "why"] {
        let asked = Daemon::builder().env("DOTMAC_ADMIN_SOCKET", socket.display());
        let reported = asked.run(&[command]).await.text();
        assert!(reported.contains("ready"), "{reported}");
        emitted.push(Emitted::new(format!("dotmac {command}"), reported));
    }
    let journal = "SELECT string_agg(it::text, E'\\n') FROM runtime_journal it";
    let journal = postgres.query(journal).await;
    assert!(journal.contains("secrets"), "{journal}");
    emitted.push(Emitted::new("the journal in the database", journal));
    let mut check = Daemon::builder().env("DOTMAC_TELEMETRY_LOG_LEVEL", "trace");
    for (key, value) in &settings {
        check = check.env(key, value);
    }
    let reported = check.run(&["check", "--connect"]).await.text();
    assert!(reported.contains("we are `approle`"), "{reported}");
    emitted.push(Emitted::new("dotmac check", reported));
    for file in ["cmdline", "environ", "comm"] {
        let bytes = fs::read(format!("/proc/{}/{file}", daemon.pid())).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let known = if file == "environ" {
            "DOTMAC_"
        } else {
            "chaos"
        };
        assert!(text.contains(known), "{file}: {text}");
        emitted.push(Emitted::new(file, text));
    }
    let stopped = daemon.stop().await;
    assert!(
        stopped.text().contains("\"level\":\"TRACE\""),
        "nothing at trace level"
    );
    for (source, text) in [
        ("standard output and error", stopped.text()),
        ("the collector", collector.text()),
    ] {
        let text = Emitted::new(source, text);
        assert_eq!(text.betrays(canary), Some("plain"), "{source}");
        emitted.push(text);
    }

    let mut secrets = bao.handed_out();
    secrets.extend(own);
    secrets.remove(ROOT_TOKEN);
    // A common word is no secret: the database's name is in the engine's configuration.
    secrets.retain(|secret| secret.len() >= 12);
    assert!(secrets.len() > 8, "{secrets:?}");
    for text in emitted {
        for secret in &secrets {
            let spelling = text.betrays(secret);
            assert_eq!(spelling, None, "{secret} is in {}", text.source);
        }
    }
}

/// A process that may not be dumped belongs to root, regardless of its user: proc(5), `/proc/PID`.
#[tokio::test]
async fn in_production_memory_and_environment_are_hidden_and_never_dumped() {
    let owner = async |environment: &str| {
        let daemon = Daemon::builder()
            .env("DOTMAC_ENVIRONMENT", environment)
            .env("DOTMAC_APP_SECRET_KEY", "0123456789abcdef0123456789abcdef")
            .without(&["accounts", "webhooks"])
            .env("DOTMAC_DATABASE_ALLOW_SQLITE", "true")
            .unprivileged()
            .spawn()
            .await;
        daemon.until("/ready", 200).await;
        let process = format!("/proc/{}", daemon.pid());
        let owner = fs::metadata(format!("{process}/environ")).unwrap().uid();
        let figures = daemon.get("/metrics").await.text().await.unwrap();
        for figure in ["process_open_fds ", "process_resident_memory_bytes "] {
            assert!(figures.contains(figure), "{environment}: no {figure}");
        }
        let status = fs::read_to_string(format!("{process}/status")).unwrap();
        let uid = status.lines().find_map(|it| it.strip_prefix("Uid:"));
        let uid: u32 = uid
            .unwrap()
            .split_whitespace()
            .next()
            .unwrap()
            .parse()
            .unwrap();
        (owner, uid)
    };
    let (owner_of_ours, uid) = owner("development").await;
    assert_eq!(owner_of_ours, uid);
    let (owner_in_production, uid) = owner("production").await;
    assert_ne!(owner_in_production, uid);
}
