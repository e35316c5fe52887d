//! PostgreSQL away, Vault away, both: probes, metrics and log must name the right one.

use serde_json::Value;

use crate::{leases::Stage, support::Daemon};

/// Until both components say what is the matter; the whole body.
async fn until_reasons(daemon: &Daemon, secrets: (&str, &str), db: &str) -> Value {
    let (state, reason) = secrets;
    crate::support::eventually(
        &format!("secrets {reason}, db {db}; {:#?}", daemon.lines()),
        || async {
            let body = daemon.json("/ready").await.1;
            let components = &body["components"];
            let expected = components["secrets"]["reason"] == reason
                && components["secrets"]["state"] == state
                && components["db"]["reason"] == db;
            expected.then_some(body)
        },
    )
    .await
}

#[tokio::test]
async fn a_dead_postgresql_is_not_blamed_on_vault_before_the_lease_ends_nor_after() {
    let mut stage = Stage::set(&[("TTL", "5s"), ("MAX_TTL", "1h")]).await;
    let daemon = stage.builder().spawn().await;
    daemon.until("/ready", 200).await;
    stage.postgres.kill().await;
    let expected = ("degraded", "database_engine_failed");
    until_reasons(&daemon, expected, "unreachable").await;
    daemon
        .logged("its database engine at `database` failed for role `dotmac`")
        .await;
    daemon
        .logged("the lease of the database's credentials")
        .await;
    // The user is gone as well, and the server is what is to be mended.
    until_reasons(&daemon, expected, "unreachable").await;
    let since = |body: &Value| body["components"]["db"]["since"].clone();
    let before = since(&daemon.json("/ready").await.1);
    let checked = stage.builder().run(&["check", "--connect"]).await;
    let text = checked.text();
    assert_eq!(checked.code, 69, "{text}");
    let target = format!("postgresql://127.0.0.1:{}/dotmac", stage.postgres.port);
    assert!(
        text.contains(&format!("cannot connect to {target}")),
        "{text}"
    );
    assert!(text.contains("database engine"), "{text}");
    assert!(
        !text.contains("check that the address is that of a Vault"),
        "{text}"
    );
    assert_eq!(since(&daemon.json("/ready").await.1), before);

    stage.postgres.restart().await;
    let body = daemon.until("/ready", 200).await;
    assert_eq!(body["components"]["db"]["generation"], 1, "{body}");
    daemon.until_component("secrets", "ready", None).await;
}

#[tokio::test]
async fn a_postgresql_that_hangs_behind_vault_is_not_a_vault_that_hangs() {
    let stage = Stage::set(&[("TTL", "3s"), ("MAX_TTL", "3s")]).await;
    let daemon = stage
        .builder()
        .env("DOTMAC_VAULT_TIMEOUT", "500ms")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    stage.postgres.freeze();
    until_reasons(
        &daemon,
        ("degraded", "database_engine_failed"),
        "unreachable",
    )
    .await;
    daemon
        .logged("the lease of the database's credentials")
        .await;
    until_reasons(
        &daemon,
        ("degraded", "database_engine_failed"),
        "unreachable",
    )
    .await;
    stage.postgres.thaw();
    daemon.until("/ready", 200).await;
}

#[tokio::test]
async fn a_start_in_production_waits_for_a_dead_postgresql_as_long_as_it_takes() {
    let mut stage = Stage::set(&[]).await;
    stage.postgres.kill().await;
    let daemon = stage
        .builder()
        .env("DOTMAC_ENVIRONMENT", "production")
        .without(&["accounts", "webhooks"])
        .env("DOTMAC_SUPERVISION_START_TIMEOUT", "1s")
        .spawn()
        .await;
    until_reasons(
        &daemon,
        ("degraded", "database_engine_failed"),
        "unreachable",
    )
    .await;
    stage.postgres.restart().await;
    daemon.until("/ready", 200).await;
}

#[tokio::test]
async fn the_end_of_a_lease_does_not_hide_that_vault_is_sealed_and_no_stale_word_stays() {
    let stage = Stage::set(&[("TTL", "5s"), ("MAX_TTL", "1h")]).await;
    let daemon = stage
        .builder()
        // A part that retries by itself waits longer than this test does.
        .env("DOTMAC_SUPERVISION_BACKOFF_MIN", "5m")
        .env("DOTMAC_SUPERVISION_BACKOFF_MAX", "5m")
        .env("DOTMAC_SUPERVISION_INTENSITY", "1")
        .env("DOTMAC_SUPERVISION_PERIOD", "1h")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let key = stage.bao.unseal_key();
    stage.bao.seal().await;
    until_reasons(&daemon, ("degraded", "sealed"), "lease_expired").await;
    let line = daemon
        .logged("the lease of the database's credentials")
        .await;
    let cause = line["error"].as_str().unwrap();
    assert!(cause.contains("sealed; unseal it"), "{cause}");
    stage.bao.unseal(&key).await;
    daemon.signal("HUP");
    daemon.until_component("secrets", "ready", None).await;
    daemon.until("/ready", 200).await;
}
