//! Text messages: Twilio, and gateways that verify who calls.

use reqwest::Method;

use super::*;
use crate::{
    support::collector::Collector,
    traces::{TRACE, ancestors, of_the_caller},
};

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

/// What the gateway does because of it can be found by the trace of whoever asked for the message.
#[tokio::test]
async fn a_request_the_job_that_it_leads_to_and_what_that_calls_are_one_trace() {
    let collector = Collector::start().await;
    let gateway = FakeHttpServer::start(|_, stream| write_answer(stream, "200 OK", "{}"));
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let daemon = texting("http", &gateway.address(), secret)
        .env("DOTMAC_TELEMETRY_OTLP_ENDPOINT", collector.endpoint())
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let request = client(&daemon, ONE).request(Method::POST, NOTIFICATIONS);
    let request = request.header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"));
    let sent = request.json(&text_to("+49301234567")).send().await.unwrap();
    assert_eq!(sent.status(), 202);
    let asked = eventually("the gateway to be asked", || async {
        gateway.asked().pop()
    })
    .await;
    let traceparent = asked.header("traceparent").unwrap().to_owned();
    assert_eq!(daemon.stop().await.code, 0);

    let parts: Vec<_> = traceparent.split('-').collect();
    let spans = eventually("the spans of the call", || async {
        let spans = of_the_caller(collector.spans());
        spans.iter().any(|it| it.id == parts[2]).then_some(spans)
    })
    .await;
    assert_eq!(parts[1], TRACE);
    let call = spans.iter().find(|span| span.id == parts[2]).unwrap();
    let above = ancestors(&spans, call);
    let above = above
        .iter()
        .filter_map(|id| spans.iter().find(|span| span.id == *id));
    let above: Vec<_> = above.map(|span| (&*span.name, &*span.kind)).collect();
    let expected = [
        ("notifications.text", "SPAN_KIND_CONSUMER"),
        ("send notification", "SPAN_KIND_INTERNAL"),
        ("POST /api/v1/notifications", "SPAN_KIND_SERVER"),
    ];
    assert_eq!(above, expected, "{spans:#?}");
}
