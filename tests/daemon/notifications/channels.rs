//! Channels that are called by HTTP: push messages that a browser's own library opens, text messages, calls of URLs.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use reqwest::Method;

use super::*;
use crate::{
    events::instances,
    support::{
        fakes::{FakeHttpServer, write_answer},
        push::Browser,
    },
};

/// 32 bytes, the same for all instances.
const MASTER_KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
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

/// A next hop that answers with the status that stands at the end of the path, or with `head`.
fn next_hop(head: &'static str) -> FakeHttpServer {
    FakeHttpServer::start(move |request, stream| {
        let last = request.path().rsplit('/').next().unwrap_or_default();
        match last.parse::<u16>() {
            Ok(status) => write_answer(stream, &format!("{status} As Asked"), ""),
            Err(_) => write_answer(stream, head, ""),
        }
    })
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
        let again = last.post(SUBSCRIPTIONS, new).await.1;
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

        // A user is reached in every browser; another tenant's has nothing of it.
        let other = client(&daemons[0], OTHER);
        assert_eq!(other.get(&path).await.0, 404);
        assert_eq!(
            other
                .request(Method::DELETE, &path)
                .send()
                .await
                .unwrap()
                .status(),
            404
        );
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

fn texting(provider: &str, url: &str, secret: &str) -> Builder {
    tenants("sqlite:dotmac.db")
        .env("DOTMAC_NOTIFICATIONS_SMS_PROVIDER", provider)
        .env("DOTMAC_NOTIFICATIONS_SMS_URL", url)
        .env("DOTMAC_NOTIFICATIONS_SMS_ACCOUNT", "AC0123")
        .env("DOTMAC_NOTIFICATIONS_SMS_FROM", "+15005550006")
        .env("DOTMAC_NOTIFICATIONS_SMS_SECRET", secret)
}

fn text_to(phone: &str) -> Value {
    json!({ "to": [{ "phone": phone }], "content": { "text": "Grüße & more" } })
}

#[tokio::test]
async fn twilio_says_what_becomes_of_a_text_message() {
    let twilio = FakeHttpServer::start(|request, stream| {
        let (status, body) = match &request.body {
            it if it.contains("%2B4930111") => (
                "400 Bad Request",
                r#"{"code":21211,"message":"Invalid 'To' Phone Number: +49301111111"}"#,
            ),
            it if it.contains("%2B4930222") => (
                "400 Bad Request",
                r#"{"code":21602,"message":"Message body is required."}"#,
            ),
            it if it.contains("%2B4930333") => (
                "429 Too Many Requests\r\nretry-after: 120",
                r#"{"code":20429,"message":"Too Many Requests"}"#,
            ),
            it if it.contains("%2B4930444") => ("401 Unauthorized", r#"{"code":20003}"#),
            it if it.contains("%2B4930555") => return Err(std::io::Error::other("it ends")),
            _ => ("201 Created", r#"{"sid":"SM4f1c","status":"queued"}"#),
        };
        write_answer(stream, status, body)
    });
    let daemon = texting("twilio", &twilio.address(), "correct horse")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    for (phone, state, reason, answer) in [
        (
            "+49 (30) 123-4567",
            "accepted",
            Value::Null,
            "201 Created SM4f1c",
        ),
        (
            "+49301111111",
            "bounced",
            json!("http_400"),
            "400 Bad Request 21211 Invalid 'To' Phone Number: +49301111111",
        ),
        (
            "+49302222222",
            "failed",
            json!("http_400"),
            "400 Bad Request 21602 Message body is required.",
        ),
        ("+49305555555", "unknown", json!("connection_failed"), ""),
    ] {
        let path = delivery(&one.send(text_to(phone)).await);
        let found = one.until_delivery(&path, state).await;
        assert_eq!(found["reason"], reason, "{found}");
        if !answer.is_empty() {
            assert_eq!(found["answer"], answer);
        }
    }
    for phone in ["+49303333333", "+49304444444"] {
        let path = delivery(&one.send(text_to(phone)).await);
        let found = one.until_retrying(&path, 1).await;
        let next = found["next_attempt_at"].as_str().unwrap();
        let next = chrono::DateTime::parse_from_rfc3339(next).unwrap();
        let wait = (next.to_utc() - chrono::Utc::now()).num_seconds();
        let is_asked = phone == "+49303333333";
        assert_eq!(wait > 60, is_asked, "{found}");
    }
    let asked = &twilio.asked()[0];
    assert_eq!(asked.path(), "/2010-04-01/accounts/ac0123/messages.json");
    assert_eq!(
        asked.body,
        "To=%2B49301234567&From=%2B15005550006&Body=Gr%C3%BC%C3%9Fe+%26+more"
    );
    assert_eq!(
        asked.header("authorization"),
        Some("Basic QUMwMTIzOmNvcnJlY3QgaG9yc2U=")
    );
    // A number that is none gets no other message.
    let path = delivery(&one.send(text_to("+49301111111")).await);
    one.until_delivery(&path, "suppressed").await;
    for phone in ["0301234567", "+49", "+49301234567x"] {
        let refused = one.post(NOTIFICATIONS, text_to(phone)).await;
        assert_eq!(
            problem(&refused),
            (422, "validation", "to[0].phone"),
            "{phone}"
        );
    }
    let mut long = text_to("+49301234567");
    long["content"]["text"] = "a".repeat(1601).into();
    let refused = one.post(NOTIFICATIONS, long).await;
    assert_eq!(problem(&refused), (422, "validation", "content.text"));
    let log = daemon.lines().join("\n");
    assert!(
        !log.contains("correct horse") && !log.contains("49301234567"),
        "{log}"
    );
}

#[tokio::test]
async fn a_gateway_verifies_who_gives_it_text_messages() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let gateway = next_hop("202 Accepted");
    let daemon = texting("http", &format!("{}/texts", gateway.address()), secret)
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    let path = delivery(&one.send(text_to("+49301234567")).await);
    let done = one.until_delivery(&path, "accepted").await;
    assert_eq!(done["answer"], "202 Accepted");
    let asked = &gateway.asked()[0];
    let verifier = standardwebhooks::Webhook::new(secret).unwrap();
    let mut headers = reqwest::header::HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        headers.insert(name, asked.header(name).unwrap().parse().unwrap());
    }
    assert!(verifier.verify(asked.body.as_bytes(), &headers).is_ok());
    let said: Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!(
        said,
        json!({ "id": done["id"], "to": "+49301234567", "from": "+15005550006", "text": "Grüße & more" })
    );
    assert_eq!(asked.header("webhook-id"), done["id"].as_str());
}

#[tokio::test]
async fn settings_of_providers_that_cannot_work_are_refused() {
    for (key, value, said) in [
        ("DOTMAC_NOTIFICATIONS_SMS_PROVIDER", "pigeon", "twilio"),
        (
            "DOTMAC_NOTIFICATIONS_SMS_PROVIDER",
            "http",
            "DOTMAC_NOTIFICATIONS_SMS_URL",
        ),
        (
            "DOTMAC_NOTIFICATIONS_SMS_PROVIDER",
            "twilio",
            "DOTMAC_NOTIFICATIONS_SMS_FROM",
        ),
        (
            "DOTMAC_NOTIFICATIONS_SMS_ACCOUNT",
            "AC/../x",
            "DOTMAC_NOTIFICATIONS_SMS_ACCOUNT",
        ),
        (
            "DOTMAC_NOTIFICATIONS_PUSH_CONTACT",
            "ops@example.com",
            "mailto:",
        ),
        (
            "DOTMAC_SMTP_BOUNCE_ADDRESS",
            "bounces+a@example.com",
            "DOTMAC_SMTP_BOUNCE_ADDRESS",
        ),
    ] {
        let checked = tenants("sqlite:dotmac.db")
            .env(key, value)
            .run(&["check"])
            .await;
        assert_eq!(checked.code, 78, "{key}={value}: {}", checked.text());
        assert!(
            checked.text().contains(said),
            "{key}={value}: {}",
            checked.text()
        );
    }
}

#[tokio::test]
async fn a_url_is_called_with_a_signature_that_its_receiver_verifies() {
    let made = tenants("sqlite:dotmac.db")
        .run(&["notifications", "webhook-key"])
        .await;
    let text = made.text();
    let private = text
        .lines()
        .find_map(|it| it.strip_prefix("DOTMAC_NOTIFICATIONS_WEBHOOK_KEY="));
    let private = private.unwrap();
    let daemon = tenants("sqlite:dotmac.db")
        .env("DOTMAC_NOTIFICATIONS_WEBHOOK_KEY", private)
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    let key = daemon.json("/api/v1/notifications/webhook-key").await.1;
    let public = key["public_key"].as_str().unwrap().to_owned();
    assert!(text.contains(&public), "{text}");
    let receiver = next_hop("204 No Content");
    let to = |path: &str| {
        json!({
            "to": [{ "url": format!("{}{path}", receiver.address()) }],
            "content": { "title": "Hello", "text": "Grüße" },
            "category": "news",
        })
    };
    let path = delivery(&one.send(to("/hooks")).await);
    let done = one.until_delivery(&path, "accepted").await;
    assert_eq!(done["answer"], "204 No Content");
    let asked = &receiver.asked()[0];
    let header = |name| asked.header(name).unwrap();
    assert_eq!(header("webhook-id"), done["id"].as_str().unwrap());
    let signed = format!(
        "{}.{}.{}",
        header("webhook-id"),
        header("webhook-timestamp"),
        asked.body
    );
    let bytes =
        |text: &str, prefix: &str| BASE64.decode(text.strip_prefix(prefix).unwrap()).unwrap();
    let verifier = aws_lc_rs::signature::UnparsedPublicKey::new(
        &aws_lc_rs::signature::ED25519,
        bytes(&public, "whpk_"),
    );
    let signature = bytes(header("webhook-signature"), "v1a,");
    assert!(verifier.verify(signed.as_bytes(), &signature).is_ok());
    let said: Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!(said["type"], "notification.v1");
    assert_eq!(
        (&said["data"]["title"], &said["data"]["text"]),
        (&json!("Hello"), &json!("Grüße"))
    );

    // One that is gone gets no other call.
    let path = delivery(&one.send(to("/410")).await);
    one.until_delivery(&path, "bounced").await;
    let path = delivery(&one.send(to("/410")).await);
    one.until_delivery(&path, "suppressed").await;
    let path = delivery(&one.send(to("/503")).await);
    one.until_retrying(&path, 1).await;

    for (url, code) in [
        ("http://169.254.169.254/", "blocked_address"),
        ("http://user:secret@example.com/", "invalid_url"),
        ("no url", "invalid_url"),
    ] {
        let body = json!({ "to": [{ "url": url }], "content": { "title": "a", "text": "b" } });
        let refused = one.post(NOTIFICATIONS, body).await;
        assert_eq!(
            problem(&refused),
            (422, "validation", "to[0].url"),
            "{refused:?}"
        );
        assert_eq!(refused.1["errors"][0]["code"], code);
    }
}
