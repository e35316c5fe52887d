//! Endpoints over HTTP: what is accepted, what is refused, who sees what.

use reqwest::Method;
use serde_json::{Value, json};

use super::{DELIVERIES, WEBHOOKS, client, path_of, receiver, webhooks};
use crate::{
    events::{ONE, OTHER, answer, instances, problem},
    support::{Daemon, Postgres, eventually},
};

#[tokio::test]
async fn endpoints_are_made_changed_and_deleted_by_clients_that_have_seen_them() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let daemons = instances(|| webhooks(&url), &url).await;
        let (one, other) = (
            client(&daemons[0], ONE),
            client(daemons.last().unwrap(), OTHER),
        );
        let body = json!({
            "url": "https://example.com/hooks?key=abc",
            "description": "orders",
            "events": ["file.*", "custom.order.paid.v1", "file.*"],
            "headers": { "X-Team": "billing", "Authorization": "Bearer hidden" },
        });
        let made = eventually("an answer", || async {
            let request = one.request(Method::POST, WEBHOOKS).json(&body);
            let answer = request
                .header("idempotency-key", "one")
                .send()
                .await
                .unwrap();
            // A database that is away for a moment, as on a loaded machine, has done nothing.
            (answer.status() != 503).then_some(answer)
        })
        .await;
        assert_eq!(made.status(), 201);
        let location = made.headers()["location"].to_str().unwrap().to_owned();
        let made: Value = made.json().await.unwrap();
        assert_eq!(location, path_of(&made));
        let secret = made["secret"].as_str().unwrap();
        assert!(
            secret.starts_with("whsec_") && secret.len() > 40,
            "{secret}"
        );

        let found = one.request(Method::GET, &location).send().await.unwrap();
        assert_eq!(found.headers()["etag"], "\"1\"");
        assert_eq!(found.headers()["cache-control"], "no-store");
        let found: Value = found.json().await.unwrap();
        for (field, value) in [
            ("url", json!("https://example.com/hooks?key=abc")),
            ("events", json!(["custom.order.paid.v1", "file.*"])),
            (
                "headers",
                json!({ "authorization": "[redacted]", "x-team": "[redacted]" }),
            ),
            ("signing", json!("hmac")),
            ("state", json!("active")),
            ("public_key", Value::Null),
        ] {
            assert_eq!(found[field], value, "{found}");
        }
        assert!(found.get("secret").is_none(), "it is shown once");
        assert_eq!(one.get(WEBHOOKS).await.1["items"], json!([found]));
        assert_eq!(other.get(WEBHOOKS).await.1["items"], json!([]));

        // A patch keeps what it does not name; of headers too.
        let blind = answer(one.request(Method::PATCH, &location).json(&json!({}))).await;
        assert_eq!(problem(&blind).1, "precondition_required");
        let patch = json!({ "description": null, "headers": { "x-team": null, "x-new": "1" } });
        let (status, changed) = one.patch_webhook(&made, patch).await;
        assert_eq!((status, &changed["description"]), (200, &json!("")));
        let names: Vec<_> = changed["headers"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["authorization", "x-new"]);
        // Another host is not sent what was set for this one.
        let elsewhere = json!({ "url": "https://elsewhere.example/" });
        let refused = one.patch_webhook(&made, elsewhere).await;
        assert_eq!(problem(&refused), (422, "validation", "headers"));
        assert_eq!(changed["events"], found["events"]);
        let stale = one.request(Method::PATCH, &location);
        let stale = answer(stale.header("if-match", "\"1\"").json(&json!({}))).await;
        assert_eq!(problem(&stale).0, 412);

        for (method, path) in [
            (Method::GET, location.clone()),
            (Method::DELETE, location.clone()),
            (Method::POST, format!("{location}/pause")),
            (Method::POST, format!("{location}/test")),
            (Method::GET, format!("{location}/stats")),
        ] {
            let request = other.request(method, &path).header("if-match", "*");
            assert_eq!(
                problem(&answer(request).await),
                (404, "webhook_not_found", ""),
                "{path}"
            );
        }
        let gone = one
            .request(Method::DELETE, &location)
            .header("if-match", "\"2\"");
        assert_eq!(answer(gone).await.0, 204);
        assert_eq!(one.get(&location).await.0, 404);
        assert_eq!(one.get(WEBHOOKS).await.1["items"], json!([]));
        for daemon in daemons {
            assert_eq!(daemon.stop().await.code, 0);
        }
    }
}

#[tokio::test]
async fn what_is_no_endpoint_is_refused_by_the_field_at_fault() {
    let daemon = webhooks("sqlite:dotmac.db")
        .env("DOTMAC_WEBHOOKS_MAX_ENDPOINTS", 2)
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    let right = json!({ "url": "https://example.com/", "events": ["*"] });
    for (field, value, code) in [
        ("url", json!("ftp://example.com/"), "invalid_url"),
        (
            "url",
            json!("https://user:secret@example.com/"),
            "invalid_url",
        ),
        (
            "url",
            json!("http://169.254.169.254/latest"),
            "blocked_address",
        ),
        ("url", json!("http://0x0a000001/"), "blocked_address"),
        (
            "url",
            json!("https://[::ffff:192.168.1.1]/"),
            "blocked_address",
        ),
        ("url", json!("https://8.8.8.8:22/"), "blocked_port"),
        ("headers", json!({ "webhook-signature": "v1,a" }), "invalid"),
        ("headers", json!({ "x-a": "b\r\nc: d" }), "invalid"),
        ("events", json!([]), "invalid"),
        ("events", json!(["*.created"]), "invalid"),
    ] {
        let mut body = right.clone();
        body[field] = value;
        let refused = one.post(WEBHOOKS, body).await;
        assert_eq!(refused.0, 422, "{refused:?}");
        let error = &refused.1["errors"][0];
        let named = error["field"].as_str().unwrap();
        assert!(named.starts_with(field), "{error}");
        assert_eq!(error["code"], code, "{error}");
    }
    let unknown = one.post(
        WEBHOOKS,
        json!({ "url": "https://a.example/", "events": ["*"], "rate": 1 }),
    );
    assert_eq!(problem(&unknown.await).1, "unknown_fields");
    let signing = json!({ "url": "https://a.example/", "events": ["*"], "signing": "rsa" });
    assert_eq!(one.post(WEBHOOKS, signing).await.0, 400);
    for _ in 0..2 {
        assert_eq!(one.post(WEBHOOKS, right.clone()).await.0, 201);
    }
    assert_eq!(
        problem(&one.post(WEBHOOKS, right).await),
        (409, "too_many_webhooks", "")
    );
    for query in ["state=sent", "endpoint=7", "events=a"] {
        let refused = one.get(&format!("{DELIVERIES}?{query}")).await;
        assert_eq!(problem(&refused).1, "invalid_query", "{query}");
    }
    let since = json!({ "since": "yesterday" });
    let webhook = one.get(WEBHOOKS).await.1["items"][0].clone();
    assert_eq!(one.act(&webhook, "/recover", since).await.0, 400);
    let overlap = one
        .act(&webhook, "/rotate", json!({ "overlap": "8d" }))
        .await;
    assert_eq!(problem(&overlap), (422, "validation", "overlap"));
}

#[tokio::test]
async fn the_types_of_events_are_listed_with_their_schemas() {
    let daemon = webhooks("sqlite:dotmac.db").spawn().await;
    daemon.until("/ready", 200).await;
    let (status, page) = client(&daemon, ONE).get("/api/v1/webhook-events").await;
    assert_eq!(status, 200);
    let items = page["items"].as_array().unwrap();
    let disabled = items
        .iter()
        .find(|it| it["type"] == "webhook.endpoint.disabled.v1")
        .unwrap();
    assert!(
        disabled["description"]
            .as_str()
            .unwrap()
            .contains("disabled")
    );
    assert!(disabled["schema"]["properties"]["reason"].is_object());
}

#[tokio::test]
async fn acts_upon_endpoints_are_in_the_audit_log_and_secrets_are_nowhere() {
    let daemon = webhooks("sqlite:dotmac.db").spawn().await;
    daemon.until("/ready", 200).await;
    let (receiver, one) = (receiver("204 No Content"), client(&daemon, ONE));
    let url = format!("{}/sekret-path?key=sekret-query", receiver.address());
    let webhook = one.webhook(&url, &["*"]).await;
    let secret = webhook["secret"].as_str().unwrap().to_owned();
    let headers = json!({ "headers": { "authorization": "sekret-header" } });
    assert_eq!(one.patch_webhook(&webhook, headers).await.0, 200);
    for action in ["/pause", "/resume", "/rotate", "/test"] {
        let acted = one.act(&webhook, action, json!({})).await;
        assert!(matches!(acted.0, 200 | 202), "{action}: {acted:?}");
    }
    let tested = one.until_deliveries(&webhook, "delivered", 1).await;
    assert_eq!(tested[0]["event"], "webhook.test.v1");
    assert_eq!(
        receiver.asked()[0].header("authorization"),
        Some("sekret-header")
    );
    let acts = eventually("the acts to be recorded", || async {
        let (_, page) = one.get("/api/v1/audit/events?limit=50").await;
        let acts: Vec<_> = page["items"]
            .as_array()?
            .iter()
            .map(|it| it["action"].clone())
            .collect();
        (acts.len() >= 6).then_some(acts)
    })
    .await;
    for act in [
        "create",
        "change",
        "pause",
        "resume",
        "secret_rotate",
        "test",
    ] {
        let act = json!(format!("webhook_{act}"));
        assert!(acts.contains(&act), "{act} is not in {acts:?}");
    }
    let log = daemon.lines().join("\n") + &daemon.get("/metrics").await.text().await.unwrap();
    let file = std::fs::read(daemon.directory().join("dotmac.db")).unwrap();
    let wal = std::fs::read(daemon.directory().join("dotmac.db-wal")).unwrap_or_default();
    let kept = String::from_utf8_lossy(&file).into_owned() + &String::from_utf8_lossy(&wal);
    for word in ["sekret-path", "sekret-query", "sekret-header", &secret] {
        assert!(!log.contains(word), "{word} is in the log");
    }
    for word in ["sekret-header", &secret] {
        assert!(
            !kept.contains(word),
            "{word} is in the clear in the database"
        );
    }
}

#[tokio::test]
async fn an_operator_lists_replays_and_recovers_without_the_daemon() {
    let daemon = webhooks("sqlite:dotmac.db").spawn().await;
    daemon.until("/ready", 200).await;
    let (receiver, one) = (receiver("204 No Content"), client(&daemon, ONE));
    let webhook = one
        .webhook(&format!("{}/sekret", receiver.address()), &["custom.*"])
        .await;
    one.event("custom.order.paid.v1", json!({})).await;
    let delivered = one.until_deliveries(&webhook, "delivered", 1).await;
    let command = async |daemon: &Daemon, arguments: &[&str]| {
        let ended = webhooks("sqlite:dotmac.db")
            .run_in(daemon.directory(), arguments)
            .await;
        (ended.code, ended.text())
    };
    let (code, listed) = command(&daemon, &["webhooks", "list"]).await;
    assert_eq!(code, 0, "{listed}");
    assert!(
        listed.contains("127.0.0.1  custom.*") && !listed.contains("sekret"),
        "{listed}"
    );
    let id = delivered[0]["id"].as_str().unwrap();
    let (code, replayed) = command(&daemon, &["webhooks", "replay", id]).await;
    assert_eq!(code, 0, "{replayed}");
    let asked = super::until_asked(&receiver, 2).await;
    assert_eq!(asked[0].header("webhook-id"), asked[1].header("webhook-id"));
    let endpoint = webhook["id"].as_str().unwrap();
    let (code, recovered) =
        command(&daemon, &["webhooks", "recover", endpoint, "--since", "1h"]).await;
    assert_eq!(code, 0, "{recovered}");
    assert!(recovered.contains("0 deliveries restarted"), "{recovered}");
    let (code, unknown) = command(&daemon, &["webhooks", "replay", endpoint]).await;
    assert_eq!(code, 1, "{unknown}");
    assert!(
        unknown.contains("there is no such webhook delivery"),
        "{unknown}"
    );
}
