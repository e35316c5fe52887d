//! Commands of operators, and the answers about a daemon with a fault.

use std::os::unix::net::UnixListener;

use serde_json::Value;

use crate::{
    admin::{chaos, dotmac, status},
    support::{Daemon, Postgres, eventually},
};

/// Otherwise `restart ../drain` turns readiness off.
#[tokio::test]
async fn the_name_of_a_component_is_never_taken_as_a_path() {
    let daemon = chaos().await;
    for name in ["../drain", "..%2fdrain", "db?x=1#y", ""] {
        let said = dotmac(daemon.directory(), &["restart", name]).await;
        assert_eq!(said.code, 1, "{name}: {}", said.text());
        let refused = "there is no such component";
        assert!(said.text().contains(refused), "{name}: {}", said.text());
    }
    assert_eq!(status(&daemon).await["status"], "ready");
}

/// Control characters would reach the operator's terminal, and a long argument would push everything else off it.
#[tokio::test]
async fn arguments_are_quoted_in_their_line_and_without_a_password() {
    let daemon = chaos().await;
    let escape = "\u{1b}[31m";
    let long = format!("/{}", "x".repeat(100_000));
    let url = "http://dotmac:hunter2@127.0.0.1:1";
    for (arguments, code) in [
        (vec![escape], 64),
        (vec![&long], 64),
        (vec!["--\u{1b}[31m"], 64),
        (vec![url], 64),
        (vec!["probe", "live", "--url", escape], 64),
        (vec!["probe", "live", "--url", &long], 64),
        (vec!["probe", "live", "--url", "dotmac:hunter2@db"], 64),
        (vec!["probe", "live", "--url", url], 1),
        (vec!["status", "--socket", escape], 69),
        (vec!["status", "--socket", &long], 69),
        (vec!["restart", escape], 1),
        (vec!["restart", &long], 1),
        (vec!["log-level", escape], 1),
        (vec!["log-level", &long], 1),
        (vec!["log-level", "info", "--target", escape], 1),
        (vec!["log-level", "info", "--target", &long], 1),
        (vec!["log-level", "info", "--for", escape], 64),
        (vec!["config", "--module", escape], 64),
        (vec!["config", "--module", &long], 64),
        (vec!["backup", &long], 69),
        (
            vec!["migrate", "down", "--steps", "1", "--owner", escape],
            69,
        ),
        (
            vec!["migrate", "down", "--steps", "1", "--owner", &long],
            69,
        ),
    ] {
        let said = dotmac(daemon.directory(), &arguments).await;
        let text = said.text();
        let shown = &text[..text.len().min(2000)];
        let begins = &arguments.join(" ")[..20.min(arguments.join(" ").len())];
        assert_eq!(said.code, code, "{begins:?}: {shown}");
        assert!(!text.is_empty() && text.len() < 2000, "{begins:?}: {shown}");
        assert!(!text.contains('\u{1b}'), "{begins:?}: {shown:?}");
        assert!(!text.contains("hunter2"), "{begins:?}: {shown}");
    }
    assert_eq!(status(&daemon).await["log_level"], "info");
}

#[tokio::test]
async fn a_restart_that_was_asked_for_logs_no_error() {
    let daemon = chaos().await;
    for component in ["chaos", "db"] {
        let said = dotmac(daemon.directory(), &["restart", component]).await;
        assert_eq!(said.code, 0, "{}", said.text());
        daemon
            .logged(&format!("actor `{component}` is restarted"))
            .await;
        eventually("the restart", || async {
            let seen = status(&daemon).await;
            let all = seen["components"].as_array().unwrap();
            let one = all.iter().find(|one| one["name"] == component).unwrap();
            (one["generation"] == 2 && seen["status"] == "ready").then_some(())
        })
        .await;
    }
    let stopped = daemon.stop().await;
    assert!(!stopped.text().contains("\"ERROR\""), "{}", stopped.text());
}

#[tokio::test]
async fn why_prints_the_last_error_and_the_remedy_of_what_is_away() {
    let mut postgres = Postgres::start().await;
    let daemon = Daemon::example("chaos")
        .env("DOTMAC_ADMIN_SOCKET", "admin.sock")
        .env("DOTMAC_DATABASE_URL", postgres.url())
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    postgres.kill().await;
    let body = daemon
        .until_component("db", "unavailable", Some("unreachable"))
        .await;
    assert_eq!(body["components"]["db"]["restarts"], 0);
    // The first error may be that of a connection that was lost.
    let error = "unavailable; retrying: cannot connect to postgresql://127.0.0.1:";
    let text = eventually("the error of a connection", || async {
        let said = dotmac(daemon.directory(), &["why"]).await;
        assert_eq!(said.code, 1, "{}", said.text());
        said.text().contains(error).then(|| said.text())
    })
    .await;
    for part in [
        "it is not ready (component_down)",
        "`db` (required) is unavailable (unreachable) since",
        "last error: ",
        "what to do: check address, network, firewall; the component retries",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert!(!text.contains("docs/"), "{text}");
    assert!(!text.contains("correct horse"), "{text}");
}

#[tokio::test]
async fn why_names_those_that_only_wait_for_another_in_one_line() {
    let daemon = Daemon::builder()
        .env("DOTMAC_ADMIN_SOCKET", "admin.sock")
        .env(
            "DOTMAC_DATABASE_URL",
            "postgresql://dotmac@127.0.0.1:1/dotmac",
        )
        .spawn()
        .await;
    daemon
        .until_component("db", "starting", Some("unreachable"))
        .await;
    // A component that needs no database may still be starting.
    let text = eventually("one cause", || async {
        let text = dotmac(daemon.directory(), &["why"]).await.text();
        (text.matches("what to do: ").count() == 1).then_some(text)
    })
    .await;
    let waiting: Vec<_> = text
        .lines()
        .filter(|line| line.contains("`events.watch`"))
        .collect();
    let [line] = waiting[..] else {
        panic!("{text}")
    };
    let begin =
        "waiting for a component that they need, and continue by themselves when it is ready: ";
    assert!(line.starts_with(begin), "{text}");
}

#[tokio::test]
async fn without_a_daemon_or_a_socket_the_commands_say_so() {
    let directory = tempfile::tempdir().unwrap();
    let said = dotmac(directory.path(), &["status"]).await;
    assert_eq!(said.code, 69, "{}", said.text());
    assert!(
        said.text().contains("there is no socket"),
        "{}",
        said.text()
    );
    // The rest of a `kill -9`.
    drop(UnixListener::bind(directory.path().join("admin.sock")).unwrap());
    for command in ["status", "why", "drain"] {
        let said = dotmac(directory.path(), &[command]).await;
        assert_eq!(said.code, 69, "{}", said.text());
        assert!(
            said.text().contains("no process listens at"),
            "{}",
            said.text()
        );
    }
    let said = Daemon::builder().run(&["status"]).await;
    assert_eq!(said.code, 64);
    assert!(
        said.text().contains("DOTMAC_ADMIN_SOCKET"),
        "{}",
        said.text()
    );
}

#[tokio::test]
async fn the_journal_can_be_read_while_the_daemon_runs_and_after_its_end() {
    let directory = tempfile::tempdir().unwrap();
    // Reading does not create the file.
    let said = dotmac(directory.path(), &["journal"]).await;
    assert_eq!(said.code, 69, "{}", said.text());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);

    let daemon = Daemon::builder().spawn_in(directory).await;
    daemon.until("/ready", 200).await;
    let place = daemon.directory().to_owned();
    let shown = eventually("the journal of a running daemon", || async {
        let said = dotmac(&place, &["journal"]).await;
        let text = said.text();
        let is_ready = |line: &str| line.contains(" db ") && line.contains(" ready");
        (said.code == 0 && text.lines().any(is_ready)).then_some(text)
    })
    .await;
    let process = format!("dotmac {}, pid {}", env!("CARGO_PKG_VERSION"), daemon.pid());
    let first = shown.lines().next().unwrap();
    assert!(
        first.contains("started") && first.contains(&process),
        "{shown}"
    );

    let directory = daemon.kill();
    let said = dotmac(
        directory.path(),
        &["journal", "--component", "db", "--last", "1", "--json"],
    )
    .await;
    assert_eq!(said.code, 0, "{}", said.text());
    let line: Value = serde_json::from_str(&said.text()).unwrap();
    assert_eq!(
        (&line["component"], &line["event"]),
        (&"db".into(), &"ready".into())
    );
    let said = dotmac(directory.path(), &["journal", "--last", "0"]).await;
    assert_eq!(said.code, 64, "{}", said.text());
}

/// A worker that was blocked for longer than a client may take for the head of its request does not blame the client.
#[tokio::test]
async fn a_probe_behind_a_blocked_worker_is_answered_late_and_not_refused() {
    let daemon = Daemon::example("chaos")
        .env("DOTMAC_WORKERS", 1)
        .env("DOTMAC_HTTP_HEADER_TIMEOUT", "500ms")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let block = format!("{}/chaos/block?ms=3000", daemon.base);
    let blocking = tokio::spawn(daemon.client.post(block).send());
    daemon.logged("blocking a worker").await;
    // Each by its own connection, as probes come.
    let probes = (0..4).map(|_| async {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client.get(format!("{}/health", daemon.base)).send().await;
        answer.unwrap().status()
    });
    for status in futures_util::future::join_all(probes).await {
        assert_eq!(status, 200);
    }
    assert_eq!(blocking.await.unwrap().unwrap().status(), 200);
}
