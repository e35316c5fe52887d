//! Programs that embed the platform: their actors and routes are treated as the daemon's own.

use serde_json::{Value, json};

use crate::support::{Daemon, OpenBao, eventually, openbao::ROOT_TOKEN};

async fn chaos(settings: &[(&str, &str)]) -> Daemon {
    let builder = Daemon::example("chaos");
    let daemon = settings
        .iter()
        .fold(builder, |builder, (key, value)| builder.env(key, value))
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    daemon
}

async fn post(daemon: &Daemon, path: &str) -> reqwest::Response {
    daemon.request(reqwest::Method::POST, path).await
}

#[tokio::test]
async fn the_greeter_greets_and_is_part_of_everything() {
    let daemon = Daemon::example("greeter").spawn().await;
    let body = daemon.until("/ready", 200).await;
    assert_eq!(body["components"]["greeter"]["state"], "ready", "{body}");
    assert_eq!(
        daemon.get("/api/v1/greet/Ada").await.text().await.unwrap(),
        "Hello, Ada! You are number 1.\n"
    );
    assert_eq!(
        daemon
            .metric(r#"dotmac_component_state{component="greeter",state="ready"}"#)
            .await,
        Some(1.0)
    );
    assert!(
        daemon.json("/openapi.json").await.1["paths"]["/api/v1/greet/{name}"]["get"].is_object()
    );
    let stopped = daemon.stop().await;
    assert_eq!(stopped.code, 0);
    assert!(
        stopped.line("stopped")["actors"]
            .as_str()
            .unwrap()
            .starts_with("greeter "),
        "{}",
        stopped.text()
    );
}

#[tokio::test]
async fn an_actor_that_panics_or_stops_is_restarted_alone() {
    let daemon = chaos(&[("DOTMAC_SUPERVISION_BACKOFF_MIN", "10ms")]).await;
    for (path, cause, life) in [("/chaos/panic", "panic", 2), ("/chaos/stop", "stop", 3)] {
        // A stop may still answer the call that asked for it; a panic cannot.
        let status = post(&daemon, path).await.status();
        assert!(status == 503 || cause == "stop", "{path}: {status}");
        eventually("the next life to answer", || async {
            (daemon.json("/chaos/ping").await.1 == json!({ "generation": life })).then_some(())
        })
        .await;
        let series = format!(r#"dotmac_actor_restarts_total{{actor="chaos",cause="{cause}"}}"#);
        assert_eq!(daemon.metric(&series).await, Some(1.0));
    }
    let body = daemon.until("/ready", 200).await;
    for other in ["secrets", "db", "telemetry"] {
        assert_eq!(body["components"][other]["restarts"], 0, "{body}");
    }
    // The supervisor repeats the text in its own line, which may be there first.
    let line = eventually("the panic's own line", || async {
        let own = |line: &Value| line["message"] == "panicked: asked to panic";
        daemon.log().into_iter().find(own)
    })
    .await;
    let place = line["panic.place"].as_str().unwrap();
    assert!(place.starts_with("examples/chaos.rs:"), "{line}");
    assert_eq!(line["actor.name"], "chaos");
}

#[tokio::test]
async fn callers_of_a_hung_actor_fail_fast_and_the_actor_comes_back() {
    let daemon = chaos(&[
        ("DOTMAC_SUPERVISION_HEARTBEAT", "100ms"),
        ("DOTMAC_SUPERVISION_HANG_AFTER", "500ms"),
        ("DOTMAC_SUPERVISION_STOP_TIMEOUT", "300ms"),
    ])
    .await;
    let hung = post(&daemon, "/chaos/hang?ms=4000").await;
    assert_eq!(hung.status(), 503);
    assert!(hung.headers().contains_key("retry-after"));
    let problem: Value = hung.json().await.unwrap();
    assert_eq!(problem["code"], "component_unavailable", "{problem}");
    eventually("the next life to answer", || async {
        daemon
            .get("/chaos/ping")
            .await
            .status()
            .is_success()
            .then_some(())
    })
    .await;
    assert_eq!(daemon.metric("dotmac_leaked_threads").await, Some(1.0));
    eventually("the hung thread to end", || async {
        (daemon.metric("dotmac_leaked_threads").await == Some(0.0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn calls_that_are_never_answered_count_as_a_hang() {
    let daemon = chaos(&[("DOTMAC_SUPERVISION_CALL_TIMEOUT", "100ms")]).await;
    for _ in 0..5 {
        assert_eq!(post(&daemon, "/chaos/silence").await.status(), 503);
    }
    let series = r#"dotmac_actor_restarts_total{actor="chaos",cause="unanswered"}"#;
    eventually("a restart", || async {
        (daemon.metric(series).await == Some(1.0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_module_that_crash_loops_is_failed_and_everything_else_goes_on() {
    let daemon = chaos(&[
        ("DOTMAC_SUPERVISION_INTENSITY", "2"),
        ("DOTMAC_SUPERVISION_BACKOFF_MIN", "1ms"),
    ])
    .await;
    eventually("the actor to be given up", || async {
        post(&daemon, "/chaos/panic").await;
        let (status, body) = daemon.json("/ready").await;
        let chaos = &body["components"]["chaos"];
        // The module says of itself that it is required.
        (status == 503 && chaos["state"] == "failed").then_some(())
    })
    .await;
    let (_, body) = daemon.json("/ready").await;
    for component in ["secrets", "db", "telemetry"] {
        assert_eq!(body["components"][component]["state"], "ready", "{body}");
    }
    assert_eq!(daemon.get("/health").await.status(), 200);
    assert_eq!(daemon.get("/chaos/ping").await.status(), 503);
    assert_eq!(daemon.get("/chaos/slow").await.status(), 200);
    assert_eq!(post(&daemon, "/chaos/transaction").await.status(), 200);
    assert_eq!(daemon.stop().await.code, 0);
}

#[tokio::test]
async fn a_panic_in_a_handler_answers_500_and_keeps_the_connection() {
    let daemon = chaos(&[]).await;
    let response = post(&daemon, "/chaos/panic-in-handler").await;
    assert_eq!(response.status(), 500);
    let problem: Value = response.json().await.unwrap();
    assert!(!problem.to_string().contains("asked to panic"), "{problem}");
    assert_eq!(daemon.get("/ready").await.status(), 200);
}

#[tokio::test]
async fn requests_in_flight_are_finished_at_a_stop() {
    let daemon = chaos(&[]).await;
    let request = daemon
        .client
        .get(format!("{}/chaos/slow?ms=1500", daemon.base))
        .send();
    let (response, ()) = tokio::join!(request, async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        daemon.signal("TERM");
    });
    assert_eq!(response.unwrap().status(), 200);
    assert_eq!(daemon.ended().await.code, 0);
}

#[tokio::test]
async fn a_request_that_outlives_the_deadline_is_named_as_late() {
    let daemon = chaos(&[
        ("DOTMAC_SHUTDOWN_TIMEOUT", "2s"),
        ("DOTMAC_HTTP_REQUEST_TIMEOUT", "1m"),
    ])
    .await;
    let url = format!("{}/chaos/slow?ms=60000", daemon.base);
    let client = daemon.client.clone();
    let request = tokio::spawn(async move { client.get(url).send().await });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let stopped = daemon.stop().await;
    assert_eq!(stopped.code, 0, "{}", stopped.text());
    assert!(
        stopped.text().contains("http did not end in time"),
        "{}",
        stopped.text()
    );
    request.abort();
}

#[tokio::test]
async fn a_stop_that_overruns_its_deadline_ends_with_75_and_says_where() {
    let daemon = chaos(&[("DOTMAC_SHUTDOWN_TIMEOUT", "1s")]).await;
    let url = format!("{}/chaos/hang?ms=20000", daemon.base);
    let client = daemon.client.clone();
    let request = tokio::spawn(async move { client.post(url).send().await });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let stopped = daemon.stop().await;
    assert_eq!(stopped.code, 75, "{}", stopped.text());
    assert!(
        stopped
            .text()
            .contains("the stop took too long; ending in phase `actors`"),
        "{}",
        stopped.text()
    );
    request.abort();
}

#[tokio::test]
async fn an_actor_is_notified_of_its_own_secret_and_only_of_changes() {
    let bao = OpenBao::start().await;
    bao.write("signer/key", "value", "the first").await;
    let daemon = Daemon::example("signer")
        .env("DOTMAC_VAULT_ADDR", bao.address())
        .env("DOTMAC_VAULT_TOKEN", ROOT_TOKEN)
        .env("DOTMAC_VAULT_REFRESH_INTERVAL", "1h")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let has = async |taken: u64, length: usize| {
        eventually(&format!("{taken} keys"), || async {
            (daemon.json("/signer").await.1 == json!([taken, length])).then_some(())
        })
        .await;
    };
    has(1, "the first".len()).await;
    bao.write("signer/key", "value", "the first").await;
    daemon.signal("HUP");
    daemon.logged("the secrets are unchanged").await;
    bao.write("signer/key", "value", "the second").await;
    daemon.signal("HUP");
    let line = daemon
        .logged("the secret `vault:signer/key` has changed")
        .await;
    assert_eq!(
        (&line["result"], &line["secrets.taken_by"]),
        (&"applied".into(), &r#"["signer"]"#.into()),
        "{line}"
    );
    assert_eq!(line["secrets.version"], 3, "{line}");
    // The second value is the second notification: the other version of the first caused none.
    has(2, "the second".len()).await;
    let body = daemon.until_component("signer", "ready", None).await;
    assert_eq!(body["components"]["signer"]["generation"], 1, "{body}");
}

#[tokio::test]
async fn without_vault_a_needed_secret_is_refused_in_production_and_warned_of_elsewhere() {
    let reported = "`signer` needs the secret `vault:signer/key`, and Vault is not enabled";
    let daemon = Daemon::example("signer").spawn().await;
    daemon.until("/ready", 200).await;
    let line = daemon.logged(reported).await;
    assert_eq!(line["level"], "WARN", "{line}");
    daemon.until_component("signer", "ready", None).await;
    assert_eq!(daemon.json("/signer").await.1, json!([0, 0]));

    let directory = tempfile::tempdir().unwrap();
    let refused = Daemon::example("signer")
        .env("DOTMAC_ENVIRONMENT", "production")
        .env("DOTMAC_DATABASE_ALLOW_SQLITE", "true")
        .run_in(directory.path(), &[])
        .await;
    assert_eq!(refused.code, 78, "{}", refused.text());
    assert!(refused.text().contains(reported), "{}", refused.text());
}
