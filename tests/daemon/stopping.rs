//! The end of the daemon: asked for, hurried, overrun, forced by a fault.

use std::time::Duration;

use crate::support::{Daemon, Postgres};

#[tokio::test]
async fn sigterm_and_sigint_stop_it_in_good_order() {
    for signal in ["TERM", "INT"] {
        let daemon = Daemon::spawn().await;
        daemon.until("/ready", 200).await;
        daemon.signal(signal);
        let stopped = daemon.ended().await;
        assert_eq!(stopped.code, 0, "{}", stopped.text());
        let line = stopped.line("stopped");
        assert_eq!(line["reason"], format!("SIG{signal}"));
        for phase in ["drain_ms", "http_ms", "actors_ms", "total_ms"] {
            assert!(line[phase].is_u64(), "{line}");
        }
        let actors = line["actors"].as_str().unwrap();
        let place = |name: &str| actors.find(name).unwrap_or_else(|| panic!("{actors}"));
        assert!(
            place("telemetry") < place("db") && place("db") < place("secrets"),
            "{actors}"
        );
    }
}

#[tokio::test]
async fn while_draining_it_is_not_ready_and_still_serves() {
    let daemon = Daemon::builder()
        .env("DOTMAC_SHUTDOWN_DRAIN_DELAY", "2s")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    daemon.signal("TERM");
    let body = daemon.until("/ready", 503).await;
    assert_eq!(body["reason"], "draining");
    assert_eq!(daemon.get("/").await.status(), 200);
    assert_eq!(daemon.get("/health").await.status(), 200);
    assert_eq!(daemon.ended().await.code, 0);
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let daemon = Daemon::builder()
        .env("DOTMAC_SHUTDOWN_DRAIN_DELAY", "20s")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    daemon.signal("TERM");
    daemon.until("/ready", 503).await;
    daemon.signal("INT");
    let stopped = daemon.ended().await;
    assert_eq!(stopped.code, 130, "{}", stopped.text());
    assert!(stopped.took < Duration::from_secs(10));
}

#[tokio::test]
async fn a_signal_during_the_start_stops_it_as_well() {
    let url = "postgres://dotmac:some-password@127.0.0.1:1/dotmac?sslmode=disable";
    let daemon = Daemon::builder()
        .env("DOTMAC_DATABASE_URL", url)
        .spawn()
        .await;
    let stopped = daemon.stop().await;
    assert_eq!(stopped.code, 0, "{}", stopped.text());
}

#[tokio::test]
async fn a_stop_with_a_frozen_database_keeps_its_deadline() {
    let postgres = Postgres::start().await;
    let daemon = Daemon::builder()
        .env("DOTMAC_DATABASE_URL", postgres.url())
        .env("DOTMAC_SHUTDOWN_TIMEOUT", "6s")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    postgres.freeze();
    daemon.until("/ready", 503).await;
    let stopped = daemon.stop().await;
    assert!([0, 75].contains(&stopped.code), "{}", stopped.text());
    assert!(stopped.took < Duration::from_secs(12), "{:?}", stopped.took);
}

#[tokio::test]
async fn a_port_in_use_is_refused_in_one_sentence() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let stopped = Daemon::builder().env("DOTMAC_PORT", port).run(&[]).await;
    assert_eq!(stopped.code, 69, "{}", stopped.text());
    assert!(
        stopped.text().contains(&format!("127.0.0.1:{port}")),
        "{}",
        stopped.text()
    );
}
