//! `dotmac` at the prompt.

use std::process::Stdio;

use crate::{
    notes::notes,
    support::{Daemon, Postgres, repository},
};

#[tokio::test]
async fn version_and_usage_have_their_exit_codes() {
    let version = Daemon::builder().run(&["--version"]).await;
    assert_eq!(
        (version.code, version.text()),
        (0, format!("dotmac {}", env!("CARGO_PKG_VERSION")))
    );
    assert_eq!(Daemon::builder().run(&["dance"]).await.code, 64);
}

#[tokio::test]
async fn check_approves_and_refuses() {
    assert_eq!(Daemon::builder().run(&["check"]).await.code, 0);
    let refused = Daemon::builder()
        .env("DOTMAC_DATABASE_POOL_SIZE", "0")
        .run(&["check"])
        .await;
    assert_eq!(refused.code, 78);
    assert!(
        refused.text().contains("DOTMAC_DATABASE_POOL_SIZE"),
        "{}",
        refused.text()
    );
    let refused = Daemon::builder()
        .env("DOTMAC_TLS_CERT", "/nowhere/cert.pem")
        .env("DOTMAC_TLS_KEY", "/nowhere/key.pem")
        .run(&["check"])
        .await;
    assert_eq!(refused.code, 78);
    assert!(
        refused.text().contains("DOTMAC_TLS_CERT"),
        "{}",
        refused.text()
    );
}

#[tokio::test]
async fn config_shows_values_and_origins_but_no_secret() {
    for format in ["table", "json", "env"] {
        let shown = Daemon::builder()
            .env(
                "DOTMAC_DATABASE_URL",
                "postgres://dotmac:some-password@127.0.0.1/dotmac",
            )
            .run(&["config", "--format", format])
            .await;
        assert_eq!(shown.code, 0, "{}", shown.text());
        assert!(shown.text().contains("DOTMAC_DATABASE_POOL_SIZE"));
        assert!(!shown.text().contains("some-password"), "{}", shown.text());
    }
}

#[tokio::test]
async fn migrate_goes_up_and_down_on_both_back_ends() {
    let postgres = Postgres::start().await;
    let directory = tempfile::tempdir().unwrap();
    for url in [
        postgres.url(),
        format!("sqlite:{}", directory.path().join("test.db").display()),
    ] {
        let run = |arguments: &'static [&'static str]| {
            let builder = Daemon::builder().env("DOTMAC_DATABASE_URL", &url);
            async move { builder.run(arguments).await }
        };
        assert_eq!(
            run(&["migrate", "status"]).await.code,
            1,
            "something is pending"
        );
        let up = run(&["migrate", "up"]).await;
        assert_eq!(up.code, 0, "{}", up.text());
        assert!(
            up.text().contains("ran 2026-11-22-000001_runtime_journal"),
            "{}",
            up.text()
        );
        assert_eq!(run(&["migrate", "status"]).await.code, 0);
        let down = run(&["migrate", "down", "--steps", "100"]).await;
        assert_eq!(down.code, 64, "{}", down.text());
        let whose = "say whose with --owner: platform, durable";
        assert!(down.text().contains(whose), "{}", down.text());
        let of_platform = &["migrate", "down", "--owner", "platform", "--steps", "100"];
        let down = run(of_platform).await;
        assert!(
            down.text()
                .contains("took back 2026-11-22-000001_runtime_journal"),
            "{}",
            down.text()
        );
        assert_eq!(run(&["migrate", "status"]).await.code, 1);
    }
}

#[tokio::test]
async fn migrate_without_a_database_reports_it() {
    let refused = Daemon::builder()
        .env(
            "DOTMAC_DATABASE_URL",
            "postgres://u:some-password@127.0.0.1:1/x",
        )
        .run(&["migrate", "up"])
        .await;
    assert_eq!(refused.code, 69, "{}", refused.text());
    assert!(refused.text().contains("127.0.0.1:1"), "{}", refused.text());
}

#[tokio::test]
async fn probe_answers_by_its_exit_code() {
    let daemon = Daemon::spawn().await;
    daemon.until("/ready", 200).await;
    for kind in ["live", "ready", "startup"] {
        let asked = Daemon::builder()
            .run(&["probe", kind, "--url", &daemon.base])
            .await;
        assert_eq!(asked.code, 0, "{}", asked.text());
    }
    let absent = Daemon::builder()
        .run(&["probe", "live", "--url", "http://127.0.0.1:1"])
        .await;
    assert_eq!(absent.code, 1, "{}", absent.text());
    let nonsense = Daemon::builder()
        .run(&["probe", "live", "--url", "nonsense"])
        .await;
    assert_eq!(nonsense.code, 64, "{}", nonsense.text());
    assert!(nonsense.text().contains("--url"), "{}", nonsense.text());
}

#[tokio::test]
async fn a_refused_start_says_why_whatever_is_logged() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for level in ["off", "dotmac::access=info"] {
        let builder = || Daemon::builder().env("DOTMAC_TELEMETRY_LOG_LEVEL", level);
        let refused = builder()
            .env("DOTMAC_PORT", taken.local_addr().unwrap().port())
            .run(&[])
            .await;
        assert_eq!(refused.code, 69);
        assert!(
            refused.text().contains("another process has this port"),
            "{level}: {}",
            refused.text()
        );
        let refused = builder()
            .env("DOTMAC_DATABASE_URL", "sqlite:nowhere/dotmac.db")
            .run(&[])
            .await;
        assert_eq!(refused.code, 69);
        assert!(
            refused.text().contains("check that its directory exists"),
            "{level}: {}",
            refused.text()
        );
    }
}

#[tokio::test]
async fn openapi_prints_what_the_daemon_serves() {
    let daemon = Daemon::spawn().await;
    let printed = Daemon::builder().run(&["openapi"]).await;
    let printed: serde_json::Value = serde_json::from_str(&printed.text()).unwrap();
    assert_eq!(printed, daemon.json("/openapi.json").await.1);
    assert_eq!(printed["openapi"], "3.1.0");
}

#[tokio::test]
async fn asyncapi_prints_what_the_daemon_serves() {
    let daemon = notes().spawn().await;
    let printed = notes().run(&["asyncapi"]).await;
    let printed: serde_json::Value = serde_json::from_str(&printed.text()).unwrap();
    assert_eq!(printed, daemon.json("/asyncapi.json").await.1);
    assert_eq!(printed["asyncapi"], "3.0.0");
    let channel = &printed["channels"]["note.added.v1"];
    assert_eq!(channel["description"], "A note was added.");
}

/// The findings of AsyncAPI's own schema about a document; empty if it is valid.
fn objections(document: &serde_json::Value) -> String {
    let mut node = std::process::Command::new("node")
        .arg(repository().join("tests/asyncapi.cjs"))
        .env(
            "NODE_PATH",
            repository().join("target/tools/schemas/node_modules"),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    serde_json::to_writer(node.stdin.take().unwrap(), document).unwrap();
    let said = node.wait_with_output().unwrap();
    let text = String::from_utf8(said.stdout).unwrap();
    assert_eq!(said.status.success(), text.is_empty(), "{text}");
    text
}

#[tokio::test]
async fn the_asyncapi_document_is_valid_by_the_schema_of_its_authors() {
    for program in [Daemon::builder(), notes()] {
        let printed = program.run(&["asyncapi"]).await;
        let mut printed: serde_json::Value = serde_json::from_str(&printed.text()).unwrap();
        assert_eq!(objections(&printed), "");
        // `example` is a word of OpenAPI.
        assert!(!printed.to_string().contains(r#""example":"#));
        let version = &printed["components"]["schemas"]["CloudEvent"]["properties"]["specversion"];
        assert_eq!(version["examples"], serde_json::json!(["1.0"]));
        printed["channels"]["a"]["address"] = 1.into();
        assert!(objections(&printed).contains("/channels/a/address"));
    }
}
