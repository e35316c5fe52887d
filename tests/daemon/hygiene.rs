//! No secret that the daemon ever held is in anything that it emitted.

use std::{collections::BTreeSet, fs};

use reqwest::Method;
use serde_json::json;

use crate::support::{
    Daemon, OpenBao, Postgres, collector::Collector, eventually, openbao::ROOT_TOKEN,
};

/// A run with all that can go right and wrong with secrets, at the most talkative level, with a collector.
/// What was handed out is known from the server's own audit log, in clear.
#[tokio::test]
async fn no_secret_ever_held_is_in_logs_metrics_probes_exports_or_the_process_list() {
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
    let mut builder = Daemon::example("chaos")
        .env("DOTMAC_TELEMETRY_LOG_LEVEL", "trace")
        .env("DOTMAC_VAULT_REFRESH_INTERVAL", "1s")
        .env(
            "DOTMAC_TELEMETRY_OTLP_ENDPOINT",
            format!("http://127.0.0.1:{}", collector.grpc),
        );
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
    // Another login, a refusal of it first, a panic, a query that PostgreSQL refuses, a reload.
    let secret_id = files.path().join("secret_id");
    let right = fs::read_to_string(&secret_id).unwrap();
    let wrong = "6f1e6a52-wrong-secret-id-5b1c0a7f";
    own.insert(wrong.to_owned());
    fs::write(&secret_id, wrong).unwrap();
    bao.call(
        Method::PUT,
        "sys/leases/revoke-prefix/auth/approle",
        json!({ "sync": true }),
    )
    .await;
    daemon
        .until_component("secrets", "degraded", Some("authentication_failed"))
        .await;
    fs::write(&secret_id, right).unwrap();
    daemon.until_component("secrets", "ready", None).await;
    daemon.request(Method::POST, "/chaos/panic").await;
    daemon
        .request(Method::POST, "/chaos/transaction?ms=1")
        .await;
    daemon.signal("HUP");
    daemon.logged("the secrets are unchanged").await;
    daemon.until("/ready", 200).await;

    let mut emitted = vec![
        daemon.get("/metrics").await.text().await.unwrap(),
        daemon.get("/ready").await.text().await.unwrap(),
        daemon.get("/").await.text().await.unwrap(),
    ];
    for file in ["cmdline", "environ", "comm"] {
        let file = format!("/proc/{}/{file}", daemon.pid());
        emitted.push(String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned());
    }
    let stopped = daemon.stop().await;
    emitted.push(stopped.text());
    emitted.push(collector.text());

    let mut secrets = bao.handed_out();
    secrets.extend(own);
    secrets.remove(ROOT_TOKEN);
    // A word that everybody uses is no secret: the database's name is among what the engine was told.
    secrets.retain(|secret| secret.len() >= 12);
    assert!(secrets.len() > 8, "{secrets:?}");
    assert!(
        stopped.text().contains("\"level\":\"TRACE\""),
        "nothing at trace level"
    );
    for text in emitted {
        for secret in &secrets {
            let found = text.lines().find(|line| line.contains(secret.as_str()));
            assert!(found.is_none(), "{secret} is in {found:?}");
        }
    }
}
