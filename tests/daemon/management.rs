//! The listener for operators: probes and metrics, independent of workers and clients.

use std::{
    net::{TcpListener, TcpStream},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    admin::dotmac,
    support::{Daemon, daemon::Builder, eventually},
};

fn chaos() -> Builder {
    let chaos = Daemon::example("chaos")
        .env("DOTMAC_MANAGEMENT_PORT", 0)
        .env("DOTMAC_ADMIN_SOCKET", "admin.sock")
        .env("DOTMAC_WORKERS", 2);
    chaos
        .env("DOTMAC_SUPERVISION_HEARTBEAT", "500ms")
        .env("DOTMAC_SUPERVISION_HANG_AFTER", "2s")
}

/// Status and body of a GET.
async fn get(url: String) -> (u16, Value) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(url).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or_default())
}

/// Has handlers block so many workers; each request has its own connection, and connections go to the workers
/// in turn.
fn block(daemon: &Daemon, workers: usize, time: Duration) -> tokio::task::JoinSet<()> {
    let mut blocking = tokio::task::JoinSet::new();
    for _ in 0..workers {
        let url = format!("{}/chaos/block?ms={}", daemon.base, time.as_millis());
        blocking.spawn(async move {
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            client.post(url).send().await.ok();
        });
    }
    blocking
}

#[tokio::test]
async fn probes_and_metrics_are_answered_while_every_worker_is_blocked() {
    let daemon = chaos().spawn().await;
    daemon.until("/ready", 200).await;
    let management = daemon.management().await;
    assert_eq!(get(format!("{management}/ready")).await.0, 200);

    let blocking = block(&daemon, 2, Duration::from_secs(8));
    daemon.logged("HTTP worker 1 has made no progress").await;
    daemon.logged("HTTP worker 2 has made no progress").await;
    let (status, ready) = get(format!("{management}/ready")).await;
    assert_eq!((status, &ready["reason"]), (503, &json!("component_down")));
    let http = json!({"state": "unavailable", "required": true, "reason": "workers_blocked"});
    assert_eq!(ready["components"]["http"], http);
    let (status, health) = get(format!("{management}/health")).await;
    assert_eq!(
        (status, &health["reason"]),
        (503, &json!("workers_blocked"))
    );
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let metrics = client
        .get(format!("{management}/metrics"))
        .send()
        .await
        .unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(
        metrics.contains("\ndotmac_http_workers_blocked 2\n"),
        "{metrics}"
    );
    let why = dotmac(daemon.directory(), &["why"]).await;
    assert_eq!(why.code, 1, "{}", why.text());
    assert!(
        why.text()
            .contains("`http` (required) is unavailable (workers_blocked)"),
        "{}",
        why.text()
    );

    blocking.join_all().await;
    eventually("every worker to make progress", || async {
        let (status, ready) = daemon.json("/ready").await;
        (status == 200 && ready["components"]["http"].is_null()).then_some(())
    })
    .await;
    daemon.logged("makes progress again").await;
    assert_eq!(get(format!("{management}/health")).await.0, 200);
}

#[tokio::test]
async fn a_blocked_worker_next_to_a_free_one_is_degraded() {
    let daemon = chaos().spawn().await;
    daemon.until("/ready", 200).await;
    let management = daemon.management().await;
    let blocking = block(&daemon, 1, Duration::from_secs(6));
    daemon.logged("has made no progress").await;
    let (status, ready) = get(format!("{management}/ready")).await;
    assert_eq!((status, &ready["status"]), (200, &json!("degraded")));
    assert_eq!(ready["components"]["http"]["state"], "degraded");
    assert_eq!(get(format!("{management}/health")).await.0, 200);
    blocking.join_all().await;
}

#[tokio::test]
async fn the_listener_for_clients_keeps_health_and_ready() {
    let daemon = chaos().spawn().await;
    daemon.until("/ready", 200).await;
    let management = daemon.management().await;
    for (path, for_clients, for_operators) in [
        ("/health", 200, 200),
        ("/ready", 200, 200),
        ("/", 200, 200),
        ("/openapi.json", 200, 200),
        ("/asyncapi.json", 200, 404),
        ("/metrics", 404, 200),
        ("/health/startup", 404, 200),
        ("/livez", 404, 200),
        ("/chaos/ping", 200, 404),
    ] {
        assert_eq!(daemon.get(path).await.status(), for_clients, "{path}");
        assert_eq!(
            get(format!("{management}{path}")).await.0,
            for_operators,
            "{path}"
        );
    }
    let (_, index) = daemon.json("/").await;
    assert_eq!(index["links"]["metrics"], Value::Null);
    let (_, document) = get(format!("{management}/openapi.json")).await;
    let paths: Vec<_> = document["paths"].as_object().unwrap().keys().collect();
    assert!(
        paths.iter().all(|path| !path.contains("chaos")),
        "{paths:?}"
    );
}

#[tokio::test]
async fn probes_are_answered_while_every_connection_is_taken() {
    const CONNECTIONS: usize = 40;
    let builder = chaos().env("DOTMAC_HTTP_MAX_CONNECTIONS", CONNECTIONS);
    let daemon = builder
        .env("DOTMAC_HTTP_HEADER_TIMEOUT", "1m")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let management = daemon.management().await;
    let address = daemon.base.strip_prefix("http://").unwrap().to_owned();
    let idle: Vec<_> = (0..CONNECTIONS * 4)
        .map(|_| TcpStream::connect(&address).unwrap())
        .collect();
    for path in ["/health", "/ready", "/metrics"] {
        assert_eq!(get(format!("{management}{path}")).await.0, 200, "{path}");
    }
    drop(idle);
}

#[tokio::test]
async fn a_probe_asks_the_management_listener() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let daemon = chaos()
        .env("DOTMAC_MANAGEMENT_PORT", free.port())
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let asked = Daemon::builder()
        .env("DOTMAC_MANAGEMENT_PORT", free.port())
        .run_in(daemon.directory(), &["probe", "startup"])
        .await;
    assert_eq!(
        (asked.code, asked.text()),
        (0, r#"{"status":"started"}"#.to_owned())
    );
}

#[tokio::test]
async fn a_management_port_that_cannot_be_had_is_named() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let taken = chaos().env("DOTMAC_MANAGEMENT_PORT", port).run(&[]).await;
    assert_eq!(taken.code, 69, "{}", taken.text());
    assert!(
        taken
            .text()
            .contains("set DOTMAC_MANAGEMENT_PORT to a free one"),
        "{}",
        taken.text()
    );
    let same = chaos()
        .env("DOTMAC_PORT", port)
        .env("DOTMAC_MANAGEMENT_PORT", port);
    let same = same.run(&[]).await;
    assert_eq!(same.code, 78, "{}", same.text());
    assert!(same.text().contains("a separate port"), "{}", same.text());
}

#[tokio::test]
async fn a_drain_is_taken_back_until_the_stop() {
    let daemon = chaos().spawn().await;
    daemon.until("/ready", 200).await;
    let drained = dotmac(daemon.directory(), &["drain"]).await;
    assert_eq!(drained.code, 0, "{}", drained.text());
    assert_eq!(daemon.until("/ready", 503).await["reason"], "draining");
    let again = dotmac(daemon.directory(), &["undrain"]).await;
    assert_eq!(again.code, 0, "{}", again.text());
    daemon.until("/ready", 200).await;
}

/// While it stops, the last listener that answers reports it.
#[tokio::test]
async fn a_stop_is_seen_on_the_management_listener_until_its_end() {
    let daemon = chaos()
        .env("DOTMAC_SHUTDOWN_DRAIN_DELAY", "2s")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let management = daemon.management().await;
    daemon.signal("TERM");
    eventually("draining", || async {
        let (status, ready) = get(format!("{management}/ready")).await;
        (status == 503 && ready["reason"] == "draining").then_some(())
    })
    .await;
    let undrained = dotmac(daemon.directory(), &["undrain"]).await;
    assert_eq!(undrained.code, 0, "{}", undrained.text());
    assert_eq!(get(format!("{management}/ready")).await.0, 503);
    assert_eq!(daemon.ended().await.code, 0);
}
