//! The admin socket and the commands that go through it.

use std::{os::unix::fs::PermissionsExt, path::Path};

use serde_json::Value;

use crate::support::{Daemon, Postgres, daemon::Stopped, eventually};

/// A daemon with a socket in its directory, and workers that a few requests keep busy.
pub async fn chaos() -> Daemon {
    let daemon = Daemon::example("chaos")
        .env("DOTMAC_ADMIN_SOCKET", "admin.sock")
        .env("DOTMAC_WORKERS", 1)
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    daemon
}

/// Runs a command where the daemon is.
pub async fn dotmac(directory: &Path, arguments: &[&str]) -> Stopped {
    Daemon::builder()
        .env("DOTMAC_ADMIN_SOCKET", "admin.sock")
        .run_in(directory, arguments)
        .await
}

/// Its line in `dotmac status`.
pub async fn status(daemon: &Daemon) -> Value {
    let said = dotmac(daemon.directory(), &["status", "--json"]).await;
    assert_eq!(said.code, 0, "{}", said.text());
    serde_json::from_str(&said.text()).unwrap()
}

#[tokio::test]
async fn a_log_level_is_changed_for_a_target_and_for_a_time_and_reverts_by_itself() {
    let daemon = chaos().await;
    let level = [
        "log-level",
        "debug",
        "--target",
        "dotmac_supervision",
        "--for",
        "2s",
    ];
    let said = dotmac(daemon.directory(), &level).await;
    assert_eq!(said.text(), "info,dotmac_supervision=debug for 2s");
    let line = daemon.logged("the log level is now").await;
    assert!(line["by"].as_str().unwrap().starts_with("user "), "{line}");
    daemon.logged("the log level is `info` again").await;
    assert_eq!(status(&daemon).await["log_level"], "info");

    for (wrong, says) in [
        (vec!["log-level", "loud"], "unknown log level"),
        (
            vec!["log-level", "debug", "--target", "a b"],
            "unusable log target",
        ),
        (vec!["restart", "nobody"], "there is no such component"),
    ] {
        let said = dotmac(daemon.directory(), &wrong).await;
        assert_eq!(said.code, 1, "{wrong:?}");
        assert!(said.text().contains(says), "{}", said.text());
    }
    assert_eq!(status(&daemon).await["status"], "ready");
    let said = dotmac(daemon.directory(), &["log-level", "debug", "--for", "ten"]).await;
    assert_eq!(said.code, 64, "{}", said.text());
}

#[tokio::test]
async fn the_socket_answers_its_owner_while_every_worker_is_blocked() {
    let daemon = chaos().await;
    let socket = daemon.directory().join("admin.sock");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let blocked = tokio::spawn(
        daemon
            .client
            .post(format!("{}/chaos/block?ms=5000", daemon.base))
            .send(),
    );
    daemon.logged("blocking a worker").await;
    let seen = status(&daemon).await;
    assert!(!blocked.is_finished(), "the worker was free again");
    assert_eq!(seen["status"], "ready", "{seen}");
    let names: Vec<&str> = seen["components"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|component| component["name"].as_str())
        .collect();
    assert_eq!(
        names,
        ["secrets", "db", "telemetry", "chaos", "chaos.worker"]
    );
}

#[tokio::test]
async fn a_restart_and_a_drain_are_done_and_why_explains_what_it_sees() {
    let daemon = chaos().await;
    let said = dotmac(daemon.directory(), &["why"]).await;
    assert_eq!((said.code, said.text().as_str()), (0, "it is ready"));
    let said = dotmac(daemon.directory(), &["restart", "chaos"]).await;
    assert_eq!(said.code, 0, "{}", said.text());
    eventually("another life", || async {
        let seen = status(&daemon).await;
        let chaos = &seen["components"][3];
        (chaos["generation"] == 2 && chaos["ends"]["requested"] == 1 && chaos["restarts"] == 1)
            .then_some(())
    })
    .await;
    assert_eq!(dotmac(daemon.directory(), &["drain"]).await.code, 0);
    let body = daemon.until("/ready", 503).await;
    assert_eq!(body["reason"], "draining");
    assert_eq!(daemon.get("/chaos/ping").await.status(), 200);
    let said = dotmac(daemon.directory(), &["why"]).await;
    assert_eq!(said.code, 1);
    assert!(
        said.text().starts_with("it is not ready (draining)"),
        "{}",
        said.text()
    );

    let directory = daemon.directory().to_owned();
    assert_eq!(daemon.stop().await.code, 0);
    assert!(!directory.join("admin.sock").exists());
}

#[tokio::test]
async fn why_names_the_module_whose_work_waits_for_its_share_of_the_database() {
    let postgres = Postgres::start().await;
    let daemon = Daemon::example("chaos")
        .env("DOTMAC_ADMIN_SOCKET", "admin.sock")
        .env("DOTMAC_DATABASE_URL", postgres.url())
        .env("DOTMAC_DATABASE_POOL_SIZE", 4)
        .env("DOTMAC_DATABASE_POOL_TIMEOUT", "60s")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let url = format!("{}/chaos/transaction?ms=15000", daemon.base);
    let held: Vec<_> = (0..5)
        .map(|_| tokio::spawn(daemon.client.post(url.clone()).send()))
        .collect();
    let expected = "module `chaos` uses 2 of its 2 database connections, and 3 pieces of its work wait for one";
    eventually("the module to be named", || async {
        let said = dotmac(daemon.directory(), &["why"]).await;
        assert_eq!(
            said.code,
            0,
            "its waiting affects no other: {}",
            said.text()
        );
        said.text().contains(expected).then_some(())
    })
    .await;
    let waiting = r#"dotmac_database_module_connections{module="chaos",state="waiting"}"#;
    assert_eq!(daemon.metric(waiting).await, Some(3.0));
    let modules = status(&daemon).await["modules"].clone();
    assert_eq!(modules[0]["name"], "chaos");
    assert_eq!(modules[0]["connections"]["max"], 2, "{modules}");
    held.iter().for_each(|request| request.abort());
}
