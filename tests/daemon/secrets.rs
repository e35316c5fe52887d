//! Secrets from OpenBao: there, absent, sealed, silent, and back.

use std::time::Duration;

use crate::support::{
    Daemon, OpenBao, Postgres, fakes::FakeSilentServer, openbao::ROOT_TOKEN, postgres::PASSWORD,
};

/// A daemon that has only Vault to learn its database password from.
fn builder(bao: &OpenBao, postgres: &Postgres) -> crate::support::daemon::Builder {
    Daemon::builder()
        .env("DOTMAC_VAULT_ADDR", bao.address())
        .env("DOTMAC_VAULT_TOKEN", ROOT_TOKEN)
        .env(
            "DOTMAC_DATABASE_URL",
            format!("postgres://127.0.0.1:{}/dotmac", postgres.port),
        )
        .env("DOTMAC_SUPERVISION_BACKOFF_MAX", "500ms")
}

async fn store_credentials(bao: &OpenBao) {
    bao.write("database/username", "value", "dotmac").await;
    bao.write("database/password", "value", PASSWORD).await;
}

#[tokio::test]
async fn the_database_gets_its_credentials_from_the_default_paths() {
    let (bao, postgres) = tokio::join!(OpenBao::start(), Postgres::start());
    store_credentials(&bao).await;
    let daemon = builder(&bao, &postgres).spawn().await;
    let body = daemon.until("/ready", 200).await;
    assert_eq!(body["components"]["secrets"]["source"], "vault");
    let stopped = daemon.stop().await;
    assert_eq!(stopped.code, 0);
    for secret in [PASSWORD, ROOT_TOKEN] {
        assert!(!stopped.text().contains(secret), "{}", stopped.text());
    }
}

#[tokio::test]
async fn a_reference_names_path_and_field() {
    let (bao, postgres) = tokio::join!(OpenBao::start(), Postgres::start());
    bao.write("team/db", "pw", PASSWORD).await;
    let daemon = builder(&bao, &postgres)
        .env("DOTMAC_DATABASE_USERNAME", "dotmac")
        .env("DOTMAC_DATABASE_PASSWORD", "vault:team/db#pw")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
}

#[tokio::test]
async fn a_vault_that_comes_late_is_picked_up_outside_production() {
    let (mut bao, postgres) = tokio::join!(OpenBao::start(), Postgres::start());
    bao.kill();
    // It may come before its secrets do: then they are found at the next reading.
    let daemon = builder(&bao, &postgres)
        .env("DOTMAC_VAULT_REFRESH_INTERVAL", "1s")
        .spawn()
        .await;
    daemon
        .until_component("secrets", "degraded", Some("unreachable"))
        .await;
    bao.restart().await;
    store_credentials(&bao).await;
    let body = daemon.until("/ready", 200).await;
    assert_eq!(body["components"]["secrets"]["state"], "ready");
}

#[tokio::test]
async fn an_outage_with_loaded_secrets_is_degraded_and_disturbs_nobody() {
    let (mut bao, postgres) = tokio::join!(OpenBao::start(), Postgres::start());
    store_credentials(&bao).await;
    let daemon = builder(&bao, &postgres)
        .env("DOTMAC_VAULT_REFRESH_INTERVAL", "1s")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    bao.kill();
    let body = daemon
        .until_component("secrets", "degraded", Some("unreachable"))
        .await;
    assert_eq!(
        (&body["status"], &body["components"]["db"]["state"]),
        (&"degraded".into(), &"ready".into()),
        "{body}"
    );
    assert_eq!(daemon.get("/ready").await.status(), 200);
    bao.restart().await;
    store_credentials(&bao).await;
    let body = daemon.until_component("secrets", "ready", None).await;
    assert_eq!(
        body["components"]["db"]["restarts"], 0,
        "the same credentials restart nobody: {body}"
    );
}

#[tokio::test]
async fn changed_credentials_restart_the_database_alone() {
    let (bao, postgres) = tokio::join!(OpenBao::start(), Postgres::start());
    store_credentials(&bao).await;
    let daemon = builder(&bao, &postgres)
        .env("DOTMAC_VAULT_REFRESH_INTERVAL", "1s")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    postgres
        .query("ALTER ROLE dotmac PASSWORD 'a new and longer one'")
        .await;
    bao.write("database/password", "value", "a new and longer one")
        .await;
    crate::support::eventually("the database to be restarted", || async {
        let body = daemon.json("/ready").await.1;
        (body["components"]["db"]["restarts"] == 1 && body["status"] == "ready").then_some(())
    })
    .await;
    assert_eq!(
        daemon
            .metric(r#"dotmac_actor_restarts_total{actor="db",cause="dependency"}"#)
            .await,
        Some(1.0)
    );
}

#[tokio::test]
async fn a_sealed_vault_is_told_apart_from_an_absent_one() {
    let (bao, postgres) = tokio::join!(OpenBao::start(), Postgres::start());
    bao.seal().await;
    let daemon = builder(&bao, &postgres).spawn().await;
    daemon
        .until_component("secrets", "degraded", Some("sealed"))
        .await;
}

#[tokio::test]
async fn in_production_missing_secrets_end_the_start_with_69_and_say_what_to_do() {
    let silent = FakeSilentServer::start();
    let stopped = Daemon::builder()
        .env("DOTMAC_ENVIRONMENT", "production")
        .env(
            "DOTMAC_VAULT_ADDR",
            format!("http://127.0.0.1:{}", silent.port),
        )
        .env("DOTMAC_VAULT_TOKEN", "s.0123456789abcdef01234567")
        .env("DOTMAC_VAULT_TIMEOUT", "300ms")
        .env("DOTMAC_SUPERVISION_START_TIMEOUT", "1500ms")
        .env("DOTMAC_DATABASE_ALLOW_SQLITE", "true")
        .run(&[])
        .await;
    assert_eq!(stopped.code, 69, "{}", stopped.text());
    assert!(stopped.took >= Duration::from_millis(1500));
    assert!(
        stopped
            .text()
            .contains(&format!("http://127.0.0.1:{}", silent.port)),
        "{}",
        stopped.text()
    );
}

#[tokio::test]
async fn a_hangup_reads_the_secrets_again() {
    let (bao, postgres) = tokio::join!(OpenBao::start(), Postgres::start());
    store_credentials(&bao).await;
    let daemon = builder(&bao, &postgres)
        .env("DOTMAC_VAULT_REFRESH_INTERVAL", "1h")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    postgres
        .query("ALTER ROLE dotmac PASSWORD 'a new and longer one'")
        .await;
    bao.write("database/password", "value", "a new and longer one")
        .await;
    daemon.signal("HUP");
    daemon
        .logged("the secret `DOTMAC_DATABASE_PASSWORD` has changed")
        .await;
    daemon.until_component("db", "ready", None).await;
}

#[tokio::test]
async fn a_frozen_vault_is_degraded_until_it_thaws() {
    let (bao, postgres) = tokio::join!(OpenBao::start(), Postgres::start());
    store_credentials(&bao).await;
    let daemon = builder(&bao, &postgres)
        .env("DOTMAC_VAULT_REFRESH_INTERVAL", "1s")
        .env("DOTMAC_VAULT_TIMEOUT", "500ms")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    bao.freeze();
    daemon
        .until_component("secrets", "degraded", Some("timeout"))
        .await;
    bao.thaw();
    daemon.until_component("secrets", "ready", None).await;
}

#[tokio::test]
async fn migrate_finds_its_credentials_in_vault_as_the_daemon_does() {
    let (bao, postgres) = tokio::join!(OpenBao::start(), Postgres::start());
    let refused = builder(&bao, &postgres)
        .env("DOTMAC_DATABASE_PASSWORD", "vault:team/db#pw")
        .run(&["migrate"])
        .await;
    assert_eq!(refused.code, 69, "{}", refused.text());
    assert!(refused.text().contains("team/db"), "{}", refused.text());
    store_credentials(&bao).await;
    let migrated = builder(&bao, &postgres).run(&["migrate"]).await;
    assert_eq!(migrated.code, 0, "{}", migrated.text());
}
