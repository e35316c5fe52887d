//! Deliveries: signed, retried, held, given up, restarted.

use std::time::Duration;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};

use super::{
    DELIVERIES, client, receiver, receiver_by_number, right_signatures, signed, until_asked,
    webhooks,
};
use crate::{
    events::{ONE, OTHER, instances, problem},
    support::{Postgres, eventually, fakes::write_answer},
};

#[tokio::test]
async fn an_event_reaches_the_endpoints_that_want_it_signed_as_the_standard_says() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let daemons = instances(|| webhooks(&url), &url).await;
        let (first, last) = (&daemons[0], daemons.last().unwrap());
        let (one, other) = (client(first, ONE), client(last, OTHER));
        let mine = receiver("200 OK\r\nx-served-by: me");
        let (unwanted, theirs) = (receiver("200 OK"), receiver("200 OK"));
        let webhook = one.webhook(&mine.address(), &["custom.order.*"]).await;
        let quiet = one.webhook(&unwanted.address(), &["file.*"]).await;
        let foreign = other.webhook(&theirs.address(), &["*"]).await;
        let event = one
            .event("custom.order.paid.v1", json!({ "cents": 4200 }))
            .await;

        let delivered = client(last, ONE)
            .until_deliveries(&webhook, "delivered", 1)
            .await;
        let asked = mine.asked();
        assert_eq!(asked.len(), 1);
        let request = &asked[0];
        assert!(
            request.head.starts_with("post / http/1.1"),
            "{}",
            request.head
        );
        assert_eq!(request.header("webhook-id"), Some(&*event));
        assert_eq!(request.header("content-type"), Some("application/json"));
        let secret = webhook["secret"].as_str().unwrap();
        assert_eq!(right_signatures(request, secret), 1);
        let sent: i64 = request
            .header("webhook-timestamp")
            .unwrap()
            .parse()
            .unwrap();
        assert!((chrono::Utc::now().timestamp() - sent).abs() < 60);
        assert!(request.header("traceparent").is_some(), "{}", request.head);
        let body: Value = serde_json::from_str(&request.body).unwrap();
        assert_eq!(body["type"], "custom.order.paid.v1");
        assert_eq!(body["data"], json!({ "cents": 4200 }));
        assert!(body["timestamp"].as_str().unwrap().ends_with('Z'));

        let detail = one.detail(&delivered[0]).await;
        for (field, value) in [
            ("event", json!("custom.order.paid.v1")),
            ("message_id", json!(event)),
            ("endpoint", webhook["id"].clone()),
            ("attempt_count", json!(1)),
            ("last_status", json!(200)),
            ("last_error", Value::Null),
            ("next_attempt_at", Value::Null),
            ("payload", body),
        ] {
            assert_eq!(detail[field], value, "{detail}");
        }
        let attempt = &detail["attempts"][0];
        assert_eq!(attempt["status"], 200);
        assert_eq!(attempt["address"], "127.0.0.1");
        assert_eq!(attempt["response_headers"]["x-served-by"], "me");
        assert_eq!(attempt["response_body"], "thanks");
        assert!(attempt["duration_ms"].is_i64() && attempt["at"].is_string());

        // No other tenant got it, and no other sees it.
        assert_eq!(one.deliveries(&quiet, "").await, Vec::<Value>::new());
        assert_eq!(other.deliveries(&foreign, "").await, Vec::<Value>::new());
        assert!(unwanted.asked().is_empty() && theirs.asked().is_empty());
        let path = format!("{DELIVERIES}/{}", detail["id"].as_str().unwrap());
        assert_eq!(
            problem(&other.get(&path).await).1,
            "webhook_delivery_not_found"
        );
        let replay = other.post(&format!("{path}/replay"), json!({})).await;
        assert_eq!(problem(&replay).0, 404);
        assert_eq!(
            one.deliveries(&webhook, "&event=custom.order.sent.v1")
                .await
                .len(),
            0
        );
        assert_eq!(
            one.deliveries(&webhook, "&event=custom.order.paid.v1")
                .await
                .len(),
            1
        );

        let (_, stats) = one
            .get(&format!("{}/stats", super::path_of(&webhook)))
            .await;
        assert_eq!(
            (&stats["delivered"], &stats["succeeded"]),
            (&json!(1), &json!(1))
        );
        assert_eq!(stats["concurrency"], 5);

        // Again, regardless of its state: the same id.
        let (status, again) = one.post(&format!("{path}/replay"), json!({})).await;
        assert_eq!((status, &again["state"]), (202, &json!("pending")));
        let asked = until_asked(&mine, 2).await;
        assert_eq!(asked[1].header("webhook-id"), Some(&*event));
        assert_eq!(asked[1].body, asked[0].body);
        one.until_deliveries(&webhook, "delivered", 1).await;
        for daemon in daemons {
            assert_eq!(daemon.stop().await.code, 0);
        }
    }
}

#[tokio::test]
async fn what_fails_is_tried_again_by_the_ladder_and_then_given_up() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let daemon = webhooks(&url).spawn().await;
        daemon.until("/ready", 200).await;
        let one = client(&daemon, ONE);
        let flaky = receiver_by_number(|number, stream| match number {
            0 => write_answer(stream, "500 Internal Server Error", "oops"),
            1 => write_answer(stream, "302 Found\r\nlocation: http://10.0.0.1/", ""),
            _ => write_answer(stream, "202 Accepted", ""),
        });
        let broken = receiver("404 Not Found");
        let webhook = one.webhook(&flaky.address(), &["custom.*"]).await;
        let refused = one.webhook(&broken.address(), &["custom.*"]).await;
        let nobody = one.webhook("http://127.0.0.1:1/", &["custom.*"]).await;
        one.event("custom.order.paid.v1", json!({})).await;
        let delivered = one.until_deliveries(&webhook, "delivered", 1).await;
        let detail = one.detail(&delivered[0]).await;
        let statuses: Vec<_> = detail["attempts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["status"].as_i64())
            .collect();
        assert_eq!(
            statuses,
            [Some(202), Some(302), Some(500)],
            "the redirect is not followed"
        );
        assert_eq!(
            detail["attempts"][2]["error"],
            "refused: the receiver answered 500"
        );
        let asked = flaky.asked();
        assert!(asked[1].at - asked[0].at >= Duration::from_millis(90));
        assert_eq!(asked[0].header("webhook-id"), asked[2].header("webhook-id"));
        for request in &asked {
            assert_eq!(
                right_signatures(request, webhook["secret"].as_str().unwrap()),
                1
            );
        }

        let failed = one.until_deliveries(&refused, "failed", 1).await;
        assert_eq!(failed[0]["attempt_count"], 4);
        assert!(failed[0]["finished_at"].is_string());
        let failed = one.until_deliveries(&nobody, "failed", 1).await;
        let detail = one.detail(&failed[0]).await;
        let error = detail["attempts"][0]["error"].as_str().unwrap();
        assert!(error.starts_with("connection_failed: "), "{error}");
        assert_eq!(detail["attempts"][0]["status"], Value::Null);
    }
}

#[tokio::test]
async fn a_receiver_that_asks_for_a_pause_gets_it() {
    let daemon = webhooks("sqlite:dotmac.db").spawn().await;
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    let busy = receiver_by_number(|number, stream| match number {
        0 => write_answer(stream, "429 Too Many Requests\r\nretry-after: 3", ""),
        _ => write_answer(stream, "204 No Content", ""),
    });
    let webhook = one.webhook(&busy.address(), &["*"]).await;
    one.event("custom.order.paid.v1", json!({ "number": 1 }))
        .await;
    let asked = until_asked(&busy, 1).await;
    let (_, stats) = one
        .get(&format!("{}/stats", super::path_of(&webhook)))
        .await;
    // The other event waits as well.
    one.event("custom.order.paid.v1", json!({ "number": 2 }))
        .await;
    one.until_deliveries(&webhook, "delivered", 2).await;
    let all = busy.asked();
    assert_eq!(all.len(), 3, "{stats}");
    for request in &all[1..] {
        assert!(request.at - asked[0].at >= Duration::from_millis(2900));
    }
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_disabled_at_once_and_can_be_recovered() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let daemons = instances(|| webhooks(&url), &url).await;
        let one = client(&daemons[0], ONE);
        let begin = chrono::Utc::now().to_rfc3339();
        let gone = receiver_by_number(|number, stream| match number {
            0 => write_answer(stream, "410 Gone", ""),
            _ => write_answer(stream, "204 No Content", ""),
        });
        let watcher = receiver("204 No Content");
        let webhook = one.webhook(&gone.address(), &["custom.*"]).await;
        let watch = one.webhook(&watcher.address(), &["webhook.*"]).await;
        one.event("custom.order.paid.v1", json!({ "number": 1 }))
            .await;
        let reported = until_asked(&watcher, 1).await;
        let body: Value = serde_json::from_str(&reported[0].body).unwrap();
        assert_eq!(body["type"], "webhook.endpoint.disabled.v1");
        assert_eq!(body["data"]["endpoint"], webhook["id"]);
        assert_eq!(body["data"]["reason"], "gone");
        one.until_deliveries(&watch, "delivered", 1).await;
        let state = one.state(&webhook).await;
        assert_eq!(
            (&state["state"], &state["state_reason"]),
            (&json!("disabled"), &json!("gone"))
        );
        assert!(daemons.iter().any(|it| {
            it.lines()
                .join("\n")
                .contains("disabled a webhook endpoint")
        }));

        one.event("custom.order.paid.v1", json!({ "number": 2 }))
            .await;
        let failed = one.until_deliveries(&webhook, "failed", 2).await;
        let error = failed[0]["last_error"].as_str().unwrap();
        assert!(error.starts_with("endpoint_disabled"), "{error}");
        assert_eq!(failed[0]["attempt_count"], 0);
        for action in ["/pause", "/test"] {
            let refused = one.act(&webhook, action, json!({})).await;
            assert_eq!(problem(&refused).1, "webhook_state", "{action}");
        }
        let since = json!({ "since": begin });
        let refused = one.act(&webhook, "/recover", since.clone()).await;
        assert_eq!(problem(&refused).1, "webhook_state");
        let (status, resumed) = one.act(&webhook, "/resume", json!({})).await;
        assert_eq!((status, &resumed["state"]), (200, &json!("active")));
        assert_eq!(resumed["state_reason"], Value::Null);
        let recovered = one.act(&webhook, "/recover", since).await;
        assert_eq!(recovered, (200, json!({ "recovered": 2, "more": false })));
        one.until_deliveries(&webhook, "delivered", 2).await;
        assert_eq!(gone.asked().len(), 3);
    }
}

#[tokio::test]
async fn an_endpoint_that_fails_for_too_long_is_disabled() {
    let daemon = webhooks("sqlite:dotmac.db")
        .env("DOTMAC_WEBHOOKS_DISABLE_AFTER", "1s")
        .env(
            "DOTMAC_WEBHOOKS_RETRIES",
            "300ms,300ms,300ms,300ms,300ms,300ms,300ms,300ms,300ms",
        )
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    let broken = receiver("500 Internal Server Error");
    let webhook = one.webhook(&broken.address(), &["*"]).await;
    one.event("custom.order.paid.v1", json!({})).await;
    let state = eventually("the endpoint to be disabled", || async {
        let state = one.state(&webhook).await;
        (state["state"] == "disabled").then_some(state)
    })
    .await;
    assert_eq!(state["state_reason"], "failing");
    let asked = broken.asked().len();
    assert!(asked >= 2, "{asked}");
    // Waiting deliveries keep waiting, and are sent after the endpoint is resumed.
    let waiting = one
        .deliveries(&webhook, "&state=pending&event=custom.order.paid.v1")
        .await;
    assert_eq!(waiting.len(), 1);
    one.act(&webhook, "/resume", json!({})).await;
    until_asked(&broken, asked + 1).await;
}

#[tokio::test]
async fn a_rotated_secret_signs_together_with_the_former_one_until_that_expires() {
    let daemon = webhooks("sqlite:dotmac.db").spawn().await;
    daemon.until("/ready", 200).await;
    let (mine, one) = (receiver("204 No Content"), client(&daemon, ONE));
    let webhook = one.webhook(&mine.address(), &["custom.*"]).await;
    let first = webhook["secret"].as_str().unwrap();
    let (status, rotated) = one
        .act(&webhook, "/rotate", json!({ "overlap": "1h" }))
        .await;
    assert_eq!(status, 200, "{rotated}");
    let second = rotated["secret"].as_str().unwrap();
    assert_ne!(first, second);
    assert!(rotated["former_secret_until"].is_string());
    one.event("custom.order.paid.v1", json!({})).await;
    let asked = until_asked(&mine, 1).await;
    let signatures = asked[0].header("webhook-signature").unwrap();
    assert_eq!(signatures.split(' ').count(), 2, "{signatures}");
    for secret in [first, second] {
        assert_eq!(right_signatures(&asked[0], secret), 1);
    }
    let (_, rotated) = one
        .act(&webhook, "/rotate", json!({ "overlap": "0s" }))
        .await;
    let third = rotated["secret"].as_str().unwrap();
    one.event("custom.order.paid.v1", json!({})).await;
    let asked = until_asked(&mine, 2).await;
    let counts = [first, second, third].map(|secret| right_signatures(&asked[1], secret));
    assert_eq!(counts, [1, 0, 1], "the first still has its hour");
}

#[tokio::test]
async fn a_key_pair_signs_and_its_public_key_stays_visible() {
    let daemon = webhooks("sqlite:dotmac.db").spawn().await;
    daemon.until("/ready", 200).await;
    let (mine, one) = (receiver("204 No Content"), client(&daemon, ONE));
    let body = json!({ "url": mine.address(), "events": ["*"], "signing": "ed25519" });
    let (status, webhook) = one.post(super::WEBHOOKS, body).await;
    assert_eq!(status, 201, "{webhook}");
    let public = webhook["secret"].as_str().unwrap();
    assert_eq!(one.state(&webhook).await["public_key"], public);
    one.event("custom.order.paid.v1", json!({})).await;
    let asked = until_asked(&mine, 1).await;
    let signature = asked[0].header("webhook-signature").unwrap();
    let signature = BASE64
        .decode(signature.strip_prefix("v1a,").unwrap())
        .unwrap();
    let public = BASE64
        .decode(public.strip_prefix("whpk_").unwrap())
        .unwrap();
    let key = UnparsedPublicKey::new(&ED25519, public);
    assert!(key.verify(signed(&asked[0]).as_bytes(), &signature).is_ok());
}

#[tokio::test]
async fn a_paused_endpoint_keeps_its_deliveries_until_it_is_resumed() {
    let daemon = webhooks("sqlite:dotmac.db").spawn().await;
    daemon.until("/ready", 200).await;
    let (mine, one) = (receiver("204 No Content"), client(&daemon, ONE));
    let beside = receiver("204 No Content");
    let webhook = one.webhook(&mine.address(), &["custom.*"]).await;
    let other = one.webhook(&beside.address(), &["custom.*"]).await;
    let (status, paused) = one.act(&webhook, "/pause", json!({})).await;
    assert_eq!((status, &paused["state"]), (200, &json!("paused")));
    for number in 0..3 {
        one.event("custom.order.paid.v1", json!({ "number": number }))
            .await;
    }
    one.until_deliveries(&other, "delivered", 3).await;
    assert_eq!(one.deliveries(&webhook, "&state=pending").await.len(), 3);
    assert!(mine.asked().is_empty());
    one.act(&webhook, "/resume", json!({})).await;
    one.until_deliveries(&webhook, "delivered", 3).await;
}

#[tokio::test]
async fn an_answer_of_any_length_is_read_up_to_its_bound() {
    let daemon = webhooks("sqlite:dotmac.db").spawn().await;
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    let long = receiver_by_number(|_, stream| write_answer(stream, "200 OK", &"x".repeat(200_000)));
    let webhook = one.webhook(&long.address(), &["*"]).await;
    one.event("custom.order.paid.v1", json!({})).await;
    let delivered = one.until_deliveries(&webhook, "delivered", 1).await;
    let detail = one.detail(&delivered[0]).await;
    let body = detail["attempts"][0]["response_body"].as_str().unwrap();
    assert_eq!(body.len(), 8192);
}
