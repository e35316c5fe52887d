//! Secrets from OpenBao: there, absent, sealed, silent, and back.

use std::{path::PathBuf, time::Duration};

use reqwest::Method;
use serde_json::json;

use crate::support::{
    Daemon, OpenBao, Postgres, daemon::Builder, eventually, fakes::FakeSilentServer,
    openbao::ROOT_TOKEN, postgres::PASSWORD,
};

/// A daemon that has only Vault to learn its database password from.
fn builder(bao: &OpenBao, postgres: &Postgres) -> Builder {
    stranger(bao, postgres).env("DOTMAC_VAULT_TOKEN", ROOT_TOKEN)
}

/// The same, and it cannot log in yet.
fn stranger(bao: &OpenBao, postgres: &Postgres) -> Builder {
    Daemon::builder()
        .env("DOTMAC_VAULT_ADDR", bao.address())
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
async fn an_outage_with_loaded_secrets_is_degraded_and_affects_no_request() {
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
        "the same credentials restart no component: {body}"
    );
}

/// Changes the password of the database's user, there and wherever `publish` puts it.
async fn change_password(postgres: &Postgres, publish: impl AsyncFnOnce(&str)) {
    let password = "a new and longer one";
    postgres
        .query(&format!("ALTER ROLE dotmac PASSWORD '{password}'"))
        .await;
    publish(password).await;
}

/// The database has gone on with other credentials, and nothing was restarted.
async fn swapped_without_a_restart(daemon: &Daemon) {
    daemon
        .logged("new connections use the new credentials")
        .await;
    let body = daemon.until_component("db", "ready", None).await;
    assert_eq!(body["components"]["db"]["restarts"], 0, "{body}");
    assert_eq!(body["components"]["db"]["generation"], 1, "{body}");
}

#[tokio::test]
async fn a_changed_password_is_taken_up_without_a_restart() {
    let (bao, postgres) = tokio::join!(OpenBao::start(), Postgres::start());
    store_credentials(&bao).await;
    let daemon = builder(&bao, &postgres)
        .env("DOTMAC_VAULT_REFRESH_INTERVAL", "1s")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    change_password(&postgres, async |password| {
        bao.write("database/password", "value", password).await;
    })
    .await;
    swapped_without_a_restart(&daemon).await;
    let line = daemon
        .logged("the secret `DOTMAC_DATABASE_PASSWORD` has changed")
        .await;
    assert_eq!(
        (&line["result"], &line["secrets.taken_by"]),
        (&"applied".into(), &r#"["db"]"#.into()),
        "{line}"
    );
    assert_eq!(line["secrets.version"], 2, "{line}");
}

#[tokio::test]
async fn a_password_that_the_server_refuses_changes_nothing_until_it_is_right() {
    let (bao, postgres) = tokio::join!(OpenBao::start(), Postgres::start());
    store_credentials(&bao).await;
    let daemon = builder(&bao, &postgres)
        .env("DOTMAC_VAULT_REFRESH_INTERVAL", "1s")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    bao.write("database/password", "value", "not known to the server")
        .await;
    let body = daemon
        .until_component("db", "degraded", Some("credentials_refused"))
        .await;
    assert_eq!(body["status"], "degraded", "{body}");
    bao.write("database/password", "value", PASSWORD).await;
    swapped_without_a_restart(&daemon).await;
}

/// A secret mounted as Kubernetes does it: a directory for each revision, and a link that is renamed
/// over.
struct Mounted {
    directory: tempfile::TempDir,
    file: PathBuf,
}

impl Mounted {
    fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        std::os::unix::fs::symlink("..data/secret", &file).unwrap();
        let mounted = Self { directory, file };
        mounted.place("first", text);
        mounted
    }

    fn place(&self, revision: &str, text: &str) {
        let directory = self.directory.path().join(revision);
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("secret"), text).unwrap();
        let link = self.directory.path().join("..data_tmp");
        std::os::unix::fs::symlink(revision, &link).unwrap();
        std::fs::rename(link, self.directory.path().join("..data")).unwrap();
    }
}

#[tokio::test]
async fn a_mounted_password_that_is_swapped_by_its_link_is_taken_up_without_a_restart() {
    let postgres = Postgres::start().await;
    let mounted = Mounted::new(PASSWORD);
    let daemon = Daemon::builder()
        .env(
            "DOTMAC_DATABASE_URL",
            format!("postgres://dotmac@127.0.0.1:{}/dotmac", postgres.port),
        )
        .env("DOTMAC_DATABASE_PASSWORD_FILE", mounted.file.display())
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    change_password(&postgres, async |password| {
        mounted.place("second", password);
    })
    .await;
    swapped_without_a_restart(&daemon).await;
}

#[tokio::test]
async fn a_projected_token_is_read_again_at_each_login() {
    let (bao, postgres) = tokio::join!(OpenBao::start(), Postgres::start());
    store_credentials(&bao).await;
    let policy = r#"path "secret/*" { capabilities = ["read"] }"#;
    let policy = json!({ "policy": policy });
    bao.call(Method::POST, "sys/policies/acl/team", policy)
        .await;
    // With a life this short there is a login every two seconds or so.
    let issued = bao.jwt_issuer("dotmac", "team", "3s").await;
    let mounted = Mounted::new(&issued().await);
    let daemon = stranger(&bao, &postgres)
        .env("DOTMAC_VAULT_AUTH", "jwt")
        .env("DOTMAC_VAULT_ROLE", "dotmac")
        .env("DOTMAC_VAULT_JWT_FILE", mounted.file.display())
        .env("DOTMAC_VAULT_REFRESH_INTERVAL", "1s")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    mounted.place("second", "not of this issuer");
    daemon
        .until_component("secrets", "degraded", Some("authentication_failed"))
        .await;
    mounted.place("third", &issued().await);
    let body = daemon.until_component("secrets", "ready", None).await;
    assert_eq!(body["components"]["secrets"]["restarts"], 0, "{body}");
    let log = daemon.stop().await.text();
    assert!(log.matches("logged in to Vault").count() >= 2, "{log}");
}

#[tokio::test]
async fn a_key_that_waits_for_a_restart_of_its_user_is_named_and_that_user_alone_restarts() {
    let (bao, postgres) = tokio::join!(OpenBao::start(), Postgres::start());
    store_credentials(&bao).await;
    bao.write("collector", "headers", "x-tenant=one").await;
    let daemon = builder(&bao, &postgres)
        .env("DOTMAC_VAULT_REFRESH_INTERVAL", "1s")
        .env("DOTMAC_TELEMETRY_OTLP_ENDPOINT", "http://127.0.0.1:1")
        .env("DOTMAC_TELEMETRY_OTLP_HEADERS", "vault:collector#headers")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    bao.write("collector", "headers", "x-tenant=two").await;
    let line = daemon
        .logged("the secret `DOTMAC_TELEMETRY_OTLP_HEADERS` has changed and needs a restart")
        .await;
    assert_eq!(line["result"], "needs_restart", "{line}");
    assert_eq!(line["secrets.waiting"], r#"["telemetry"]"#, "{line}");
    eventually("telemetry to restart", || async {
        let body = daemon.json("/ready").await.1;
        (body["components"]["telemetry"]["generation"] == 2).then_some(())
    })
    .await;
    let body = daemon.json("/ready").await.1;
    assert_eq!(body["components"]["db"]["generation"], 1, "{body}");
}

#[tokio::test]
async fn of_a_mounted_url_the_password_is_taken_live_and_the_rest_waits_for_a_restart() {
    let postgres = Postgres::start().await;
    let url = |password: &str, name: &str| {
        let password = password.replace(' ', "%20");
        format!(
            "postgres://dotmac:{password}@127.0.0.1:{}/{name}",
            postgres.port
        )
    };
    let mounted = Mounted::new(&url(PASSWORD, "dotmac"));
    let daemon = Daemon::builder()
        .env("DOTMAC_DATABASE_URL_FILE", mounted.file.display())
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    change_password(&postgres, async |password| {
        mounted.place("second", &url(password, "dotmac"));
    })
    .await;
    swapped_without_a_restart(&daemon).await;
    let line = daemon
        .logged("the secret `DOTMAC_DATABASE_PASSWORD` has changed")
        .await;
    assert_eq!(line["result"], "applied", "{line}");
    let waits = |line: &serde_json::Value| line["result"] == "needs_restart";
    let log = daemon.log();
    assert!(
        !log.iter().any(waits),
        "{:?}",
        log.iter().find(|it| waits(it))
    );

    // The user of another database is none for this one.
    mounted.place("third", &url("of another database", "another"));
    let line = daemon
        .logged("`DOTMAC_DATABASE_URL` has changed and needs a restart")
        .await;
    assert_eq!(
        (&line["key"], &line["result"]),
        (&"DOTMAC_DATABASE_URL".into(), &"needs_restart".into()),
        "{line}"
    );
    daemon.logged("the secrets are unchanged").await;
    let body = daemon.until_component("db", "ready", None).await;
    assert_eq!(body["components"]["db"]["generation"], 1, "{body}");
}

/// Where an operator looks when something is wrong with Vault: the probe, the log and the check.
async fn all_say(bao: &OpenBao, variables: &[(&str, &str)], reason: &str, words: &str) {
    let builder = || {
        let builder = Daemon::builder()
            .env("DOTMAC_VAULT_ADDR", bao.address())
            .env("DOTMAC_VAULT_KV_VERSION", "2")
            .env(
                "DOTMAC_DATABASE_URL",
                "postgres://dotmac@127.0.0.1:1/dotmac",
            )
            .env("DOTMAC_DATABASE_PASSWORD", "vault:team/db#pw");
        variables
            .iter()
            .fold(builder, |builder, (key, value)| builder.env(key, value))
    };
    let daemon = builder().spawn().await;
    daemon
        .until_component("secrets", "degraded", Some(reason))
        .await;
    daemon.logged(words).await;
    let checked = builder().run(&["check", "--connect"]).await;
    let text = checked.text();
    assert_eq!(checked.code, 69, "{text}");
    assert!(text.contains(words), "{words:?} is not in {text}");
}

const AS_ROOT: &[(&str, &str)] = &[("DOTMAC_VAULT_TOKEN", ROOT_TOKEN)];

#[tokio::test]
async fn a_server_that_is_sealed_is_said_to_be() {
    let bao = OpenBao::start().await;
    bao.seal().await;
    all_say(&bao, AS_ROOT, "sealed", "sealed; unseal it").await;
}

#[tokio::test]
async fn a_server_that_was_never_initialised_is_said_to_be() {
    let bao = OpenBao::uninitialised().await;
    let words = "not initialised; initialise and unseal it";
    all_say(&bao, AS_ROOT, "not_initialized", words).await;
}

#[tokio::test]
async fn a_standby_that_has_lost_its_active_node_is_said_to_be() {
    let mut active = OpenBao::durable().await;
    let standby = OpenBao::standby_of(&active).await;
    active.kill();
    let login = [
        ("DOTMAC_VAULT_AUTH", "approle"),
        ("DOTMAC_VAULT_ROLE_ID", "a role"),
        ("DOTMAC_VAULT_SECRET_ID", "a secret id"),
    ];
    let words = "a standby and cannot reach an active node";
    all_say(&standby, &login, "standby", words).await;
}

#[tokio::test]
async fn a_policy_or_a_namespace_that_is_missing_is_named() {
    let bao = OpenBao::start().await;
    let body = json!({ "policies": ["default"] });
    let made = bao.call(Method::POST, "auth/token/create", body).await;
    let token = made["auth"]["client_token"].as_str().unwrap();
    let line = r#"path "secret/data/team/db" { capabilities = ["read"] }"#;
    let as_nobody = [("DOTMAC_VAULT_TOKEN", token)];
    all_say(&bao, &as_nobody, "permission_denied", line).await;

    let elsewhere = [AS_ROOT[0], ("DOTMAC_VAULT_NAMESPACE", "tema")];
    let words = "no namespace `tema`";
    all_say(&bao, &elsewhere, "namespace_missing", words).await;
}

#[tokio::test]
async fn in_production_missing_secrets_end_the_start_with_69_and_say_what_to_do() {
    let silent = FakeSilentServer::start();
    let stopped = Daemon::builder()
        .env("DOTMAC_ENVIRONMENT", "production")
        .without(&["accounts", "webhooks"])
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
    change_password(&postgres, async |password| {
        bao.write("database/password", "value", password).await;
    })
    .await;
    daemon.signal("HUP");
    daemon
        .logged("the secret `DOTMAC_DATABASE_PASSWORD` has changed")
        .await;
    swapped_without_a_restart(&daemon).await;
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
async fn a_rate_limit_of_vault_is_distinguished_and_affects_no_request() {
    let (bao, postgres) = tokio::join!(OpenBao::start(), Postgres::start());
    store_credentials(&bao).await;
    let daemon = builder(&bao, &postgres)
        .env("DOTMAC_VAULT_REFRESH_INTERVAL", "1s")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let quota = "sys/quotas/rate-limit/tight";
    let one_an_hour = json!({ "path": "secret", "rate": 1, "interval": "1h" });
    bao.call(Method::POST, quota, one_an_hour).await;
    let body = daemon
        .until_component("secrets", "degraded", Some("rate_limited"))
        .await;
    assert_eq!(body["components"]["db"]["state"], "ready", "{body}");
    daemon.logged("the server limits the rate").await;
    let checked = builder(&bao, &postgres).run(&["check", "--connect"]).await;
    let text = checked.text();
    assert_eq!(checked.code, 69, "{text}");
    assert!(text.contains("the server limits the rate"), "{text}");
    bao.call(Method::DELETE, quota, json!({})).await;
    let body = daemon.until_component("secrets", "ready", None).await;
    assert_eq!(body["components"]["db"]["generation"], 1, "{body}");
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
