//! Probes of orchestrators, in every state of the daemon.

use serde_json::json;

use crate::support::{Daemon, Postgres, daemon::JOURNALED, eventually, fakes::FakeSilentServer};

#[tokio::test]
async fn with_nothing_configured_every_component_becomes_ready() {
    let daemon = Daemon::spawn().await;
    let body = daemon.until("/ready", 200).await;
    assert_eq!(body["status"], "ready", "{body}");
    assert_eq!(body["reason"], json!(null));
    for (name, required, source) in [
        ("secrets", false, "environment"),
        ("db", true, "sqlite"),
        ("telemetry", false, "local"),
    ] {
        let component = &body["components"][name];
        assert_eq!(component["state"], "ready", "{body}");
        assert_eq!(component["required"], required, "{name}");
        assert_eq!(component["restarts"], 0, "{name}");
        assert_eq!(component["source"], source, "{name}");
        assert!(
            component["since"].as_str().unwrap().ends_with('Z'),
            "{body}"
        );
    }
}

#[tokio::test]
async fn components_start_in_the_promised_order() {
    let daemon = Daemon::spawn().await;
    daemon.until("/ready", 200).await;
    let order: Vec<String> = daemon
        .log()
        .iter()
        .filter_map(|line| {
            Some(
                line["message"]
                    .as_str()?
                    .strip_prefix("actor `")?
                    .strip_suffix("` is ready")?
                    .to_owned(),
            )
        })
        .collect();
    assert_eq!(order.first().map(String::as_str), Some("secrets"));
    assert!(
        order.contains(&"db".to_owned()) && order.contains(&"telemetry".to_owned()),
        "{order:?}"
    );
}

#[tokio::test]
async fn health_shows_name_version_and_environment() {
    let daemon = Daemon::spawn().await;
    for path in ["/health", "/health/live", "/livez"] {
        let (status, body) = daemon.json(path).await;
        assert_eq!(status, 200);
        assert_eq!(
            body,
            json!({ "status": "healthy", "name": "dotmac-platform", "version": env!("CARGO_PKG_VERSION"), "environment": "development" })
        );
    }
}

#[tokio::test]
async fn while_the_database_is_not_there_the_daemon_is_live_not_started_and_not_ready() {
    let silent = FakeSilentServer::start();
    let url = format!(
        "postgres://dotmac:some-password@127.0.0.1:{}/dotmac?sslmode=disable",
        silent.port
    );
    let daemon = Daemon::builder()
        .env("DOTMAC_DATABASE_URL", url)
        .spawn()
        .await;
    for path in ["/ready", "/health/ready", "/readyz"] {
        let (status, body) = daemon.json(path).await;
        assert_eq!(
            (status, &body["status"], &body["reason"]),
            (503, &json!("not_ready"), &json!("starting")),
            "{body}"
        );
    }
    for path in ["/health/startup", "/startupz"] {
        assert_eq!(daemon.get(path).await.status(), 503);
    }
    assert_eq!(daemon.get("/health").await.status(), 200);
    assert_eq!(daemon.metric("dotmac_ready").await, Some(0.0));
}

#[tokio::test]
async fn startup_stays_passed_when_readiness_is_lost() {
    let mut postgres = Postgres::start().await;
    let daemon = Daemon::builder()
        .env("DOTMAC_DATABASE_URL", postgres.url())
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    postgres.kill().await;
    let body = daemon.until("/ready", 503).await;
    assert_eq!(body["reason"], "component_down");
    assert_eq!(daemon.get("/health/startup").await.status(), 200);
    assert_eq!(daemon.get("/health").await.status(), 200);
}

#[tokio::test]
async fn probes_say_nothing_about_hosts_and_credentials() {
    let url = "postgres://some-user:some-password@127.0.0.1:1/some-database?sslmode=disable";
    let daemon = Daemon::builder()
        .env("DOTMAC_DATABASE_URL", url)
        .spawn()
        .await;
    let body = daemon
        .until_component("db", "starting", Some("unreachable"))
        .await
        .to_string();
    for hidden in [
        "some-user",
        "some-password",
        "some-database",
        "127.0.0.1",
        "refused",
    ] {
        assert!(!body.contains(hidden), "{body}");
    }
}

#[tokio::test]
async fn a_scrape_has_the_promised_names() {
    let daemon = Daemon::spawn().await;
    daemon.until("/ready", 200).await;
    daemon.get("/").await;
    // The first database work is the journal's, without a waiting caller.
    eventually("the journal to be written", || async {
        daemon.metric(JOURNALED).await
    })
    .await;
    let response = daemon.get("/metrics").await;
    assert!(
        response.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    let text = response.text().await.unwrap();
    for name in [
        "http_server_request_duration_seconds_count",
        "http_server_active_requests",
        "db_client_connection_count",
        "db_client_connection_wait_time_seconds_count",
        "db_client_operation_duration_seconds_count",
        "dotmac_database_check_age_seconds",
        "dotmac_database_errors_total",
        "dotmac_ready",
        "dotmac_component_state",
        "dotmac_actor_restarts_total",
        "dotmac_actor_calls_in_flight",
        "dotmac_actor_heartbeat_age_seconds",
        "dotmac_leaked_threads",
        "dotmac_build_info",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(name)),
            "{name} is not in:\n{text}"
        );
    }
}

#[tokio::test]
async fn promtool_has_no_objection_to_a_scrape() {
    use std::io::Write;
    let daemon = Daemon::spawn().await;
    daemon.until("/ready", 200).await;
    let text = daemon.get("/metrics").await.text().await.unwrap();
    let mut promtool = std::process::Command::new(crate::support::tool("promtool"))
        .args(["check", "metrics"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let said = promtool.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&said.stderr).into_owned() + &String::from_utf8_lossy(&said.stdout);
    let remarks: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
    assert!(remarks.is_empty(), "{remarks:#?}");
}
