//! Exports to a collector, and the behaviour without one.

use std::time::Duration;

use crate::support::{Daemon, collector::Collector, fakes::FakeSilentServer};

#[tokio::test]
async fn traces_metrics_and_logs_arrive_by_both_protocols() {
    for protocol in ["grpc", "http"] {
        let collector = Collector::start().await;
        let port = collector.port(protocol);
        let daemon = Daemon::builder()
            .env(
                "DOTMAC_TELEMETRY_OTLP_ENDPOINT",
                format!("http://127.0.0.1:{port}"),
            )
            .env("DOTMAC_TELEMETRY_OTLP_PROTOCOL", protocol)
            .env("DOTMAC_TELEMETRY_METRIC_INTERVAL", "1s")
            .spawn()
            .await;
        let body = daemon.until("/ready", 200).await;
        assert_eq!(body["components"]["telemetry"]["source"], "otlp");
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        daemon.traced("/", trace).await;
        collector.got("dotmac.ready").await;
        assert_eq!(daemon.stop().await.code, 0);
        for text in ["startup", trace, "listening on"] {
            collector.got(text).await;
        }
    }
}

#[tokio::test]
async fn a_collector_that_is_silent_or_absent_slows_nothing_and_ends_in_time() {
    let silent = FakeSilentServer::start();
    for port in [silent.port, 1] {
        let daemon = Daemon::builder()
            .env(
                "DOTMAC_TELEMETRY_OTLP_ENDPOINT",
                format!("http://127.0.0.1:{port}"),
            )
            .env("DOTMAC_TELEMETRY_EXPORT_TIMEOUT", "1s")
            .env("DOTMAC_TELEMETRY_METRIC_INTERVAL", "1s")
            .spawn()
            .await;
        daemon.until("/ready", 200).await;
        let body = daemon.until_component("telemetry", "degraded", None).await;
        assert_eq!(body["status"], "degraded");
        assert_eq!(daemon.get("/").await.status(), 200);
        let stopped = daemon.stop().await;
        assert_eq!(stopped.code, 0, "{}", stopped.text());
        assert!(stopped.took < Duration::from_secs(8), "{:?}", stopped.took);
    }
}

#[tokio::test]
async fn a_stop_waits_once_for_a_collector_that_hangs_whatever_is_left_to_send() {
    let silent = FakeSilentServer::start();
    let limit = Duration::from_secs(8);
    let daemon = Daemon::builder()
        .env(
            "DOTMAC_TELEMETRY_OTLP_ENDPOINT",
            format!("http://127.0.0.1:{}", silent.port),
        )
        .env("DOTMAC_TELEMETRY_EXPORT_TIMEOUT", "8s")
        .env("DOTMAC_SHUTDOWN_DRAIN_DELAY", "0s")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    daemon.get("/").await;
    let stopped = daemon.stop().await;
    // Two flushes, of the component and of the very end, share the one time.
    assert!(stopped.took < limit * 2, "{:?}", stopped.took);
    stopped.line("telemetry was not delivered completely");
}

#[tokio::test]
async fn every_line_of_the_log_is_one_object_with_the_promised_fields() {
    let daemon = Daemon::spawn().await;
    daemon.until("/ready", 200).await;
    let response = daemon.get("/").await;
    let id = response.headers()["x-request-id"]
        .to_str()
        .unwrap()
        .to_owned();
    let stopped = daemon.stop().await;
    let lines: Vec<serde_json::Value> = stopped
        .lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["message"], "starting");
    for line in &lines {
        for field in ["timestamp", "level", "message", "target"] {
            assert!(line[field].is_string(), "{line}");
        }
    }
    let access = lines
        .iter()
        .find(|line| line["request_id"] == id.as_str())
        .unwrap();
    assert_eq!(
        access["trace_id"].as_str().map(str::len),
        Some(32),
        "{access}"
    );
}
