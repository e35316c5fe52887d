//! A worker of a module that panics, fails, blocks or waits does not disturb the rest of the daemon.

use serde_json::Value;

use crate::support::{Daemon, daemon::Stopped, eventually};

async fn chaos(settings: &[(&str, &str)]) -> Daemon {
    let builder = Daemon::example("chaos").env("DOTMAC_ADMIN_SOCKET", "admin.sock");
    let daemon = settings
        .iter()
        .fold(builder, |builder, (key, value)| builder.env(key, value))
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    daemon
}

async fn order(daemon: &Daemon, order: &str) {
    let path = format!("/chaos/worker?order={order}");
    let answer = daemon.request(reqwest::Method::POST, &path).await;
    assert_eq!(answer.status(), 200);
}

async fn worker(daemon: &Daemon) -> Value {
    daemon.json("/ready").await.1["components"]["chaos.worker"].clone()
}

async fn dotmac(daemon: &Daemon, arguments: &[&str]) -> Stopped {
    Daemon::builder()
        .env("DOTMAC_ADMIN_SOCKET", "admin.sock")
        .run_in(daemon.directory(), arguments)
        .await
}

#[tokio::test]
async fn a_worker_that_crash_loops_is_failed_until_an_operator_restarts_it() {
    let daemon = chaos(&[
        ("DOTMAC_SUPERVISION_INTENSITY", "2"),
        ("DOTMAC_SUPERVISION_BACKOFF_MIN", "1ms"),
    ])
    .await;
    eventually("the worker to be given up", || async {
        order(&daemon, "panic").await;
        (worker(&daemon).await["state"] == "failed").then_some(())
    })
    .await;
    let (status, body) = daemon.json("/ready").await;
    assert_eq!(
        (status, &body["status"]),
        (200, &"degraded".into()),
        "{body}"
    );
    assert_eq!(
        body["components"]["chaos.worker"]["reason"], "panicked",
        "{body}"
    );
    assert_eq!(daemon.get("/health").await.status(), 200);
    assert_eq!(daemon.get("/chaos/ping").await.status(), 200);
    let series = r#"dotmac_component_state{component="chaos.worker",state="failed"}"#;
    assert_eq!(daemon.metric(series).await, Some(1.0));
    let line = daemon
        .logged("worker `chaos.worker` has failed permanently")
        .await;
    assert_eq!(
        (&line["level"], &line["reason"]),
        (&"ERROR".into(), &"panicked".into()),
        "{line}"
    );
    let said = line["message"].as_str().unwrap();
    for part in [
        "more than 2 times within 60s",
        "then run `restart chaos.worker`",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let why = dotmac(&daemon, &["why"]).await.text();
    assert!(
        why.contains("`chaos.worker` (optional) is failed (panicked)"),
        "{why}"
    );
    assert!(
        why.contains("then run `dotmac restart chaos.worker`"),
        "{why}"
    );

    assert_eq!(dotmac(&daemon, &["restart", "chaos.worker"]).await.code, 0);
    eventually("the worker to be well", || async {
        (worker(&daemon).await["state"] == "ready").then_some(())
    })
    .await;
    assert_eq!(daemon.stop().await.code, 0);
}

#[tokio::test]
async fn an_error_of_a_worker_is_logged_counted_and_retried() {
    let daemon = chaos(&[]).await;
    order(&daemon, "fail").await;
    let line = daemon
        .logged("restarting worker `chaos.worker`: its run returned an error: asked to fail")
        .await;
    assert_eq!(line["cause"], "run_failed", "{line}");
    eventually("another life", || async {
        let worker = worker(&daemon).await;
        (worker["state"] == "ready" && worker["restarts"] == 1).then_some(())
    })
    .await;
    let series = r#"dotmac_actor_restarts_total{actor="chaos.worker",cause="run_failed"}"#;
    assert_eq!(daemon.metric(series).await, Some(1.0));
}

#[tokio::test]
async fn a_worker_that_blocks_its_thread_is_named_and_replaced() {
    let daemon = chaos(&[
        ("DOTMAC_SUPERVISION_HEARTBEAT", "100ms"),
        ("DOTMAC_SUPERVISION_HANG_AFTER", "500ms"),
        ("DOTMAC_SUPERVISION_STOP_TIMEOUT", "300ms"),
    ])
    .await;
    order(&daemon, "block&ms=4000").await;
    daemon
        .logged("restarting worker `chaos.worker`: it has blocked its thread for")
        .await;
    eventually(
        "another life in parallel with the thread that was given up",
        || async {
            let leaked = daemon.metric("dotmac_leaked_threads").await;
            (leaked == Some(1.0) && worker(&daemon).await["state"] == "ready").then_some(())
        },
    )
    .await;
    eventually("the thread to end", || async {
        (daemon.metric("dotmac_leaked_threads").await == Some(0.0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn status_and_metrics_show_the_runs_of_a_worker_and_how_far_they_have_come() {
    let daemon = chaos(&[]).await;
    let runs = r#"dotmac_worker_runs_total{worker="chaos.worker"}"#;
    eventually("the first run", || async {
        (daemon.metric(runs).await == Some(1.0)).then_some(())
    })
    .await;
    let success = r#"dotmac_worker_last_success_seconds{worker="chaos.worker"}"#;
    assert!(daemon.metric(success).await.is_some_and(|at| at > 1e9));
    order(&daemon, "wait&ms=3600000").await;
    let shown = eventually("the progress of the second", || async {
        let status = dotmac(&daemon, &["status"]).await.text();
        status.contains("1 of 2").then_some(status)
    })
    .await;
    let line = shown
        .lines()
        .find(|line| line.contains("chaos.worker"))
        .unwrap();
    assert!(line.contains("1 runs, one under way for "), "{line}");
    let age = r#"dotmac_worker_run_age_seconds{worker="chaos.worker"}"#;
    assert!(daemon.metric(age).await.is_some_and(|age| age > 0.0));
    // It does not hold up the stop for an hour.
    assert_eq!(daemon.stop().await.code, 0);
}
