//! Credentials that OpenBao leases: renewed, replaced, given back, and what happens when they are not.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::{Daemon, OpenBao, Postgres, daemon::Builder, eventually};

/// The servers of a test, and the settings of a daemon with only an AppRole.
pub struct Stage {
    pub bao: OpenBao,
    pub postgres: Postgres,
    settings: Vec<(String, String)>,
}

impl Stage {
    /// `variables` are those of `deploy/openbao/set-up`.
    pub async fn set(variables: &[(&str, &str)]) -> Self {
        Self::set_with(OpenBao::start(), variables).await
    }

    async fn set_with(bao: impl Future<Output = OpenBao>, variables: &[(&str, &str)]) -> Self {
        let (bao, postgres) = tokio::join!(bao, Postgres::start());
        let settings = bao.set_up(&postgres, variables);
        Self {
            bao,
            postgres,
            settings,
        }
    }

    pub fn builder(&self) -> Builder {
        self.equip(Daemon::builder())
    }

    /// The same for a program with routes that query.
    fn chaos(&self) -> Builder {
        self.equip(Daemon::example("chaos"))
    }

    fn equip(&self, builder: Builder) -> Builder {
        let builder = builder
            .env("DOTMAC_SUPERVISION_BACKOFF_MAX", "500ms")
            .env("DOTMAC_VAULT_REFRESH_INTERVAL", "1s");
        let settings = self.settings.iter();
        settings.fold(builder, |builder, (key, value)| builder.env(key, value))
    }

    /// The users that the dynamic role has made and that are there now.
    async fn users(&self) -> usize {
        let count = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-%'";
        self.postgres.query(count).await.parse().unwrap()
    }

    /// The names that connections of the daemon are open under, but for the monitor's.
    async fn until_users(&self, expected: usize) {
        eventually(&format!("{expected} users"), || async {
            (self.users().await == expected).then_some(())
        })
        .await;
    }
}

async fn rotations(daemon: &Daemon, result: &str) -> f64 {
    let series = format!(r#"dotmac_secret_rotations_total{{result="{result}",secret="database"}}"#);
    daemon.metric(&series).await.unwrap_or(0.0)
}

async fn until_rotations(daemon: &Daemon, at_least: f64) {
    eventually(&format!("{at_least} rotations"), || async {
        (rotations(daemon, "applied").await >= at_least).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_user_is_leased_renewed_and_given_back_with_the_token_at_the_stop() {
    let stage = Stage::set(&[("TTL", "2s"), ("MAX_TTL", "1h")]).await;
    let daemon = stage.builder().spawn().await;
    daemon.until("/ready", 200).await;
    let remaining = r#"dotmac_secret_lease_remaining_seconds{secret="database"}"#;
    let left = daemon.metric(remaining).await.unwrap();
    assert!(left > 0.0 && left <= 2.0, "{left}");
    let begun = tokio::time::Instant::now();
    eventually("the lease to outlive its first grant", || async {
        (begun.elapsed().as_secs() >= 4).then_some(())
    })
    .await;
    assert_eq!((stage.users().await, stage.bao.leases().await), (1, 1));
    assert_eq!(
        rotations(&daemon, "applied").await,
        1.0,
        "renewed, not replaced"
    );
    let stopped = daemon.stop().await;
    assert_eq!(stopped.code, 0, "{}", stopped.text());
    assert_eq!((stage.users().await, stage.bao.leases().await), (0, 0));
    let accessors = Method::from_bytes(b"LIST").unwrap();
    let tokens = stage
        .bao
        .call(accessors, "auth/token/accessors", Value::Null)
        .await;
    let tokens = tokens["data"]["keys"].as_array().unwrap().len();
    assert_eq!(tokens, 1, "but for root's no token is left");
}

/// Four users, one after the other, while a client writes all the time.
async fn four_users_and_no_failed_request(stage: &Stage) -> Daemon {
    let daemon = stage.chaos().spawn().await;
    daemon.until("/ready", 200).await;
    let load = Load::begin(&daemon);
    until_rotations(&daemon, 4.0).await;
    load.failed_none().await;
    let body = daemon.until_component("db", "ready", None).await;
    assert_eq!(body["components"]["db"]["generation"], 1, "{body}");
    stage.until_users(1).await;
    daemon
}

#[tokio::test]
async fn a_user_that_cannot_be_renewed_is_replaced_under_load_and_no_request_fails() {
    let stage = Stage::set(&[("TTL", "2s"), ("MAX_TTL", "3s")]).await;
    four_users_and_no_failed_request(&stage).await.stop().await;
    stage.until_users(0).await;
}

#[tokio::test]
async fn a_static_role_is_followed_through_the_changes_of_its_password() {
    let stage = Stage::set(&[("ROTATION_PERIOD", "5s")]).await;
    let daemon = stage
        .chaos()
        .env("DOTMAC_DATABASE_VAULT_ROLE", "dotmac-static")
        // Each new one needs the password of that moment.
        .env("DOTMAC_DATABASE_MAX_LIFETIME", "1s")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let load = Load::begin(&daemon);
    until_rotations(&daemon, 3.0).await;
    load.failed_none().await;
    let body = daemon.until_component("db", "ready", None).await;
    assert_eq!(body["components"]["db"]["generation"], 1, "{body}");
}

/// A client that writes all the time.
struct Load {
    stop: Arc<AtomicBool>,
    client: JoinHandle<Vec<String>>,
}

impl Load {
    fn begin(daemon: &Daemon) -> Self {
        let (http, stop) = (daemon.client.clone(), Arc::<AtomicBool>::default());
        let url = format!("{}/chaos/transaction?ms=20", daemon.base);
        let stopped = Arc::clone(&stop);
        let client = tokio::spawn(async move {
            let mut failed = Vec::new();
            while !stopped.load(Relaxed) {
                let answer = http.post(&url).send().await.unwrap();
                if !answer.status().is_success() {
                    failed.push(answer.text().await.unwrap());
                }
            }
            failed
        });
        Self { stop, client }
    }

    async fn failed_none(self) {
        self.stop.store(true, Relaxed);
        assert_eq!(self.client.await.unwrap(), Vec::<String>::new());
    }
}

/// Until the database's monitor, which saw the former user go, has looked again.
async fn until_work_is_done(daemon: &Daemon) {
    eventually("work to be done", || async {
        let answer = daemon
            .request(Method::POST, "/chaos/transaction?ms=5")
            .await;
        (answer.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_token_is_renewed_before_its_end_and_there_is_no_other_login() {
    let stage = Stage::set(&[("TOKEN_TTL", "3s")]).await;
    let daemon = stage.chaos().spawn().await;
    daemon.until("/ready", 200).await;
    let load = Load::begin(&daemon);
    // More than two of its lives.
    tokio::time::sleep(Duration::from_secs(7)).await;
    load.failed_none().await;
    daemon.until_component("secrets", "ready", None).await;
    let log = daemon.stop().await.text();
    assert_eq!(log.matches("logged in to Vault").count(), 1, "{log}");
    assert_eq!(log.matches("got credentials for").count(), 1, "{log}");
}

#[tokio::test]
async fn a_token_at_the_end_of_its_longest_life_takes_its_user_along_only_when_there_is_another() {
    let stage = Stage::set(&[("TOKEN_TTL", "3s"), ("TOKEN_MAX_TTL", "3s")]).await;
    let stopped = four_users_and_no_failed_request(&stage).await.stop().await;
    let log = stopped.text();
    assert!(log.matches("logged in to Vault").count() >= 4, "{log}");
    stage.until_users(0).await;
}

#[tokio::test]
async fn a_token_revoked_from_outside_is_replaced_with_all_that_died_with_it() {
    let stage = Stage::set(&[]).await;
    let daemon = stage.chaos().spawn().await;
    daemon.until("/ready", 200).await;
    stage.bao.revoke("auth/approle").await;
    until_rotations(&daemon, 2.0).await;
    daemon.logged("Vault rejects the token").await;
    daemon.until_component("secrets", "ready", None).await;
    until_work_is_done(&daemon).await;
    stage.until_users(1).await;
    let stopped = daemon.stop().await;
    let made = stopped.text().matches("got credentials for").count();
    assert_eq!(made, 2, "one in place of one: {}", stopped.text());
}

#[tokio::test]
async fn a_wrapped_secret_id_is_unwrapped_once_for_all_lives_of_the_actor() {
    let stage = Stage::set(&[]).await;
    let daemon = stage
        .builder()
        .env("DOTMAC_VAULT_SECRET_ID", stage.bao.wrapped_secret_id())
        .env("DOTMAC_VAULT_SECRET_ID_WRAPPED", "true")
        .env("DOTMAC_ADMIN_SOCKET", "admin.sock")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let restarted = Daemon::builder()
        .env("DOTMAC_ADMIN_SOCKET", "admin.sock")
        .run_in(daemon.directory(), &["restart", "secrets"])
        .await;
    assert_eq!(restarted.code, 0, "{}", restarted.text());
    eventually("its next life to be ready", || async {
        let body = daemon.json("/ready").await.1;
        let secrets = &body["components"]["secrets"];
        (secrets["generation"] == 2 && secrets["state"] == "ready").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_lease_cut_short_from_outside_is_noticed_and_replaced() {
    let stage = Stage::set(&[]).await;
    let daemon = stage.chaos().spawn().await;
    daemon.until("/ready", 200).await;
    stage.bao.revoke("database/creds").await;
    // By the first part that meets it: the next renewal, or the database's monitor, which may have a connection already
    // or be refused one.
    let reported = [
        "was revoked from outside",
        "database unavailable; retrying",
        "database degraded",
    ];
    eventually("the report of the loss", || async {
        let lines = daemon.lines();
        let is_reported = |line: &String| reported.iter().any(|text| line.contains(text));
        lines.iter().any(is_reported).then_some(())
    })
    .await;
    until_rotations(&daemon, 2.0).await;
    stage.until_users(1).await;
    until_work_is_done(&daemon).await;
}

#[tokio::test]
async fn while_vault_is_sealed_the_lease_serves_to_its_end_and_then_the_database_is_not_ready() {
    let stage = Stage::set(&[("TTL", "6s"), ("MAX_TTL", "1h")]).await;
    let daemon = stage.builder().spawn().await;
    daemon.until("/ready", 200).await;
    let key = stage.bao.unseal_key();
    stage.bao.seal().await;
    let body = daemon
        .until_component("secrets", "degraded", Some("sealed"))
        .await;
    assert_eq!(body["components"]["db"]["state"], "ready", "{body}");
    let rest = async || {
        let series = r#"dotmac_secret_lease_remaining_seconds{secret="database"}"#;
        daemon.metric(series).await
    };
    let first = rest().await.unwrap();
    eventually("the time that is left to be counted down", || async {
        (rest().await? < first - 1.0).then_some(())
    })
    .await;
    let body = daemon.until("/ready", 503).await;
    // The effect where it is felt, the cause where it is.
    let reason = |name: &str| body["components"][name]["reason"].clone();
    assert_eq!(
        (reason("db"), reason("secrets")),
        ("lease_expired".into(), "sealed".into()),
        "{body}"
    );
    assert_eq!(body["components"]["secrets"]["required"], false);
    assert_eq!(daemon.get("/health").await.status(), 200);
    stage.bao.unseal(&key).await;
    let body = daemon.until("/ready", 200).await;
    assert_eq!(body["components"]["db"]["generation"], 1, "{body}");
    daemon.until_component("secrets", "ready", None).await;
}

#[tokio::test]
async fn a_vault_that_crashes_and_comes_back_finds_the_same_token_and_the_same_lease() {
    let mut stage = Stage::set_with(OpenBao::durable(), &[]).await;
    let daemon = stage.chaos().spawn().await;
    daemon.until("/ready", 200).await;
    stage.bao.kill();
    let body = daemon
        .until_component("secrets", "degraded", Some("unreachable"))
        .await;
    assert_eq!(body["components"]["db"]["state"], "ready", "{body}");
    stage.bao.restart().await;
    daemon
        .until_component("secrets", "degraded", Some("sealed"))
        .await;
    let answer = daemon
        .request(Method::POST, "/chaos/transaction?ms=5")
        .await;
    assert_eq!(answer.status(), 200);
    stage.bao.unseal(&stage.bao.unseal_key()).await;
    let body = daemon.until_component("secrets", "ready", None).await;
    assert_eq!(body["components"]["db"]["generation"], 1, "{body}");
    assert_eq!(rotations(&daemon, "applied").await, 1.0);
    let logins = daemon
        .log()
        .iter()
        .filter(|line| line["message"] == "logged in to Vault")
        .count();
    assert_eq!(logins, 1, "the token was good all the time");
    daemon.stop().await;
    stage.until_users(0).await;
}

#[tokio::test]
async fn postgresql_that_refuses_the_new_user_changes_nothing_until_it_does_not() {
    let stage = Stage::set(&[("TTL", "10s"), ("MAX_TTL", "10s")]).await;
    let daemon = stage.chaos().spawn().await;
    daemon.until("/ready", 200).await;
    // New users may not log in from now on; those that are there are as they were.
    let role = |attribute: &str| {
        json!({
            "db_name": "dotmac", "default_ttl": "10s", "max_ttl": "10s",
            "creation_statements": [
                format!("CREATE ROLE \"{{{{name}}}}\" {attribute} PASSWORD '{{{{password}}}}' IN ROLE dotmac"),
                "ALTER ROLE \"{{name}}\" SET ROLE dotmac",
            ],
            "revocation_statements": ["DROP ROLE IF EXISTS \"{{name}}\""],
        })
    };
    let path = "database/roles/dotmac";
    stage.bao.call(Method::POST, path, role("NOLOGIN")).await;
    let load = Load::begin(&daemon);
    daemon
        .until_component("db", "degraded", Some("credentials_refused"))
        .await;
    assert!(rotations(&daemon, "refused").await >= 1.0);
    stage
        .postgres
        .query(
            "DO $$ DECLARE user_name name; BEGIN
        FOR user_name IN SELECT rolname FROM pg_roles WHERE rolname LIKE 'v-%' LOOP
            EXECUTE format('ALTER ROLE %I LOGIN', user_name);
        END LOOP; END $$",
        )
        .await;
    let body = daemon.until_component("db", "ready", None).await;
    load.failed_none().await;
    assert_eq!(body["components"]["db"]["generation"], 1, "{body}");
    assert!(rotations(&daemon, "applied").await >= 2.0);
}

#[tokio::test]
async fn a_vault_that_does_not_answer_does_not_hold_up_the_stop() {
    let stage = Stage::set(&[]).await;
    let daemon = stage
        .builder()
        .env("DOTMAC_SUPERVISION_STOP_TIMEOUT", "1s")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    stage.bao.freeze();
    let stopped = daemon.stop().await;
    stage.bao.thaw();
    assert_eq!(stopped.code, 0, "{}", stopped.text());
    stopped.line("Vault did not revoke leases and token in time; they expire");
}

#[tokio::test]
async fn a_role_that_is_not_there_is_named() {
    let stage = Stage::set(&[]).await;
    let refused = stage
        .builder()
        .env("DOTMAC_DATABASE_VAULT_ROLE", "dotmax")
        .run(&["migrate"])
        .await;
    assert_eq!(refused.code, 69, "{}", refused.text());
    let denied = r#"path "database/creds/dotmax" { capabilities = ["read"] }"#;
    assert!(refused.text().contains(denied), "{}", refused.text());
    let migrated = stage.builder().run(&["migrate"]).await;
    assert_eq!(migrated.code, 0, "{}", migrated.text());
    assert_eq!(stage.users().await, 0, "the user was given back");
}
