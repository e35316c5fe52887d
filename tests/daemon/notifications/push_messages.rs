//! Push messages, which a browser's own library opens.

use reqwest::Method;

use super::*;
use crate::{events::instances, support::push::Browser};

/// The key of RFC 8291's application server, and its public half.
const PUSH_KEY: &str = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw";
const PUSH_PUBLIC: &str =
    "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8";
const SUBSCRIPTIONS: &str = "/api/v1/push/subscriptions";

fn pushing(url: &str) -> Builder {
    tenants(url)
        .env("DOTMAC_APP_MASTER_KEY", MASTER_KEY)
        .env("DOTMAC_NOTIFICATIONS_PUSH_KEY", PUSH_KEY)
        .env(
            "DOTMAC_NOTIFICATIONS_PUSH_CONTACT",
            "mailto:ops@example.com",
        )
}

fn subscription(endpoint: &str, browser: &Browser) -> Value {
    json!({
        "endpoint": endpoint,
        "expirationTime": null,
        "keys": { "p256dh": browser.p256dh, "auth": browser.auth },
        "label": "a test",
    })
}

fn push(title: &str) -> Value {
    json!({
        "to": [{ "user": ONE }],
        "channels": ["web_push"],
        "content": { "title": title, "body": "Grüße \u{1f600}", "data": { "export": 7 } },
        "priority": "high",
    })
}

#[tokio::test]
async fn a_push_message_is_opened_by_the_browser_alone_on_both_back_ends() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let daemons = instances(|| pushing(&url), &url).await;
        let (one, last) = (
            client(&daemons[0], ONE),
            client(daemons.last().unwrap(), ONE),
        );
        let service = next_hop("201 Created");
        let key = one.get("/api/v1/push/key").await.1;
        assert_eq!(key, json!({ "public_key": PUSH_PUBLIC }));
        let browser = Browser::new();
        let endpoint = format!("{}/send/Secret", service.address());
        let new = subscription(&endpoint, &browser);
        let (status, made) = one.post(SUBSCRIPTIONS, new.clone()).await;
        assert_eq!(
            (status, &made["push_service"]),
            (201, &json!("127.0.0.1")),
            "{made}"
        );
        assert!(!made.to_string().contains("Secret"), "{made}");
        let again = last.post(SUBSCRIPTIONS, new.clone()).await.1;
        assert_eq!(again["id"], made["id"], "a browser has one");
        let path = format!("{SUBSCRIPTIONS}/{}", made["id"].as_str().unwrap());
        assert_eq!(last.get(&path).await.1, again);
        assert_eq!(last.get(SUBSCRIPTIONS).await.1["items"], json!([again]));

        let sent = last.send(push("Ready")).await;
        let delivery = delivery(&sent);
        let done = last.until_delivery(&delivery, "accepted").await;
        assert_eq!(
            (&done["answer"], &done["status"]),
            (&json!("201 Created"), &json!(201))
        );
        assert_eq!(done["recipient"], made["id"]);
        let asked = service.asked();
        let request = &asked[0];
        assert_eq!(
            (
                asked.len(),
                request.header("content-encoding"),
                request.header("urgency")
            ),
            (1, Some("aes128gcm"), Some("high"))
        );
        assert_eq!(request.header("ttl"), Some("86400"));
        let authorization = request.header("authorization").unwrap();
        let opened = browser.open(&request.bytes, authorization).unwrap();
        let said: Value = serde_json::from_str(&opened.text).unwrap();
        assert_eq!(
            said,
            json!({
                "id": done["id"], "category": "general", "title": "Ready", "body": "Grüße \u{1f600}", "data": { "export": 7 },
            })
        );
        assert_eq!(
            (
                &opened.claims["aud"],
                &opened.claims["sub"],
                &*opened.sender
            ),
            (
                &json!(service.address()),
                &json!("mailto:ops@example.com"),
                PUSH_PUBLIC
            )
        );
        assert!(Browser::new().open(&request.bytes, authorization).is_err());
        // Another sender's message of the same text has the same shape, and the same code opens it.
        let theirs = browser.encrypted_by_pywebpush(&opened.text);
        assert_eq!(theirs.len(), 2 * request.bytes.len());
        assert_eq!(
            browser.open_hex(&theirs, authorization).unwrap().text,
            opened.text
        );

        // A user is reached in every browser; another tenant's has nothing of it.
        let other = client(&daemons[0], OTHER);
        assert_eq!(other.get(&path).await.0, 404);
        assert_eq!(other.delete(&path, Some("*")).await, 404);
        let refused = other.post(NOTIFICATIONS, {
            let mut push = push("a");
            push["to"] = json!([{ "user": OTHER }]);
            push
        });
        assert_eq!(problem(&refused.await), (422, "validation", "to[0].user"));
        let second = subscription(&format!("{}/410", service.address()), &Browser::new());
        assert_eq!(one.post(SUBSCRIPTIONS, second).await.0, 201);
        let sent = one.send(push("Both")).await;
        assert_eq!(sent["deliveries"].as_array().unwrap().len(), 2, "{sent}");
        // What the push service says is gone is deleted.
        for it in sent["deliveries"].as_array().unwrap() {
            let path = format!("{DELIVERIES}/{}", it["id"].as_str().unwrap());
            let is_first = it["recipient"] == made["id"];
            let expected = if is_first { "accepted" } else { "bounced" };
            one.until_delivery(&path, expected).await;
        }
        let left = one.get(SUBSCRIPTIONS).await.1;
        assert_eq!(left["items"].as_array().unwrap().len(), 1, "{left}");

        let ended = one.request(Method::DELETE, SUBSCRIPTIONS);
        let ended = ended
            .json(&json!({ "endpoint": endpoint }))
            .send()
            .await
            .unwrap();
        assert_eq!(ended.status(), 204);
        let refused = one.post(NOTIFICATIONS, push("a")).await;
        assert_eq!(problem(&refused), (422, "validation", "to[0].user"));
        let made = one.post(SUBSCRIPTIONS, new.clone()).await.1;
        let again = last.post(SUBSCRIPTIONS, new).await.1;
        assert_eq!(again["id"], made["id"]);
        let path = format!("{SUBSCRIPTIONS}/{}", made["id"].as_str().unwrap());
        let (stale, tag) = (made["etag"].as_str(), again["etag"].as_str());
        for (tag, status) in [(None, 428), (stale, 412), (tag, 204), (tag, 404)] {
            assert_eq!(one.delete(&path, tag).await, status);
        }
        let log = daemons[0].lines().join("\n");
        assert!(
            !log.contains("Secret") && !log.contains(&browser.auth),
            "{log}"
        );
    }
}

#[tokio::test]
async fn what_is_no_subscription_is_refused_by_its_field() {
    let daemon = pushing("sqlite:dotmac.db")
        .env("DOTMAC_ENVIRONMENT", "staging")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let (one, browser) = (client(&daemon, ONE), Browser::new());
    let with = |field: &str, value: Value| {
        let mut new = subscription("https://push.example.com/send", &browser);
        match field.split_once('.') {
            Some((outer, inner)) => new[outer][inner] = value,
            None => new[field] = value,
        }
        new
    };
    let off_curve = browser.p256dh.replace(&browser.p256dh[20..24], "AAAA");
    for (field, value, at) in [
        (
            "endpoint",
            json!("https://169.254.169.254/latest"),
            "endpoint",
        ),
        ("endpoint", json!("http://[::1]/"), "endpoint"),
        ("endpoint", json!("ftp://push.example.com"), "endpoint"),
        ("keys.p256dh", json!(off_curve), "keys.p256dh"),
        ("keys.p256dh", json!("AAAA"), "keys.p256dh"),
        ("keys.auth", json!("AAAA"), "keys.auth"),
        ("expirationTime", json!(1), "expiration_time"),
    ] {
        let refused = one.post(SUBSCRIPTIONS, with(field, value)).await;
        assert_eq!(problem(&refused), (422, "validation", at), "{refused:?}");
    }
    for number in 0..20 {
        let endpoint = format!("https://push.example.com/{number}");
        let made = one
            .post(SUBSCRIPTIONS, subscription(&endpoint, &browser))
            .await;
        assert_eq!(made.0, 201, "{made:?}");
    }
    let refused = one
        .post(SUBSCRIPTIONS, with("label", json!("one more")))
        .await;
    assert_eq!(problem(&refused).1, "too_many_subscriptions");
    let long = json!({ "title": "a", "body": "b".repeat(4000) });
    let mut message = push("a");
    message["content"] = long;
    let refused = one.post(NOTIFICATIONS, message).await;
    assert_eq!(problem(&refused), (422, "validation", "content.body"));
}

#[tokio::test]
async fn without_a_key_there_are_no_push_messages() {
    let daemon = tenants("sqlite:dotmac.db").spawn().await;
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    for answered in [
        one.get("/api/v1/push/key").await,
        one.post(
            SUBSCRIPTIONS,
            subscription("https://a.example", &Browser::new()),
        )
        .await,
    ] {
        assert_eq!(problem(&answered).1, "web_push_not_configured");
    }
    let key = one.get("/api/v1/notifications/webhook-key").await;
    assert_eq!(problem(&key).1, "webhook_not_configured");
}

/// What makes a push message is not sent twice: the process ends while the push service has it.
#[tokio::test]
async fn a_push_message_without_an_answer_is_unknown() {
    let lost = FakeHttpServer::start(|_, _| Err(std::io::Error::other("the connection ends here")));
    let daemon = pushing("sqlite:dotmac.db").spawn().await;
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    let new = subscription(&lost.address(), &Browser::new());
    assert_eq!(one.post(SUBSCRIPTIONS, new).await.0, 201);
    let path = delivery(&one.send(push("a")).await);
    let found = one.until_delivery(&path, "unknown").await;
    assert_eq!(found["reason"], "connection_failed", "{found}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(lost.asked().len(), 1);
}
