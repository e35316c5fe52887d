//! Accepted, delivered and refused notifications.

use reqwest::Method;

use super::*;
use crate::events::{answer, instances};

#[tokio::test]
async fn a_delivery_is_what_the_relay_answered_on_both_back_ends() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let relay = Smtp::start().await;
        let daemons = instances(|| mailing(&url, relay.port), &url).await;
        let (one, last) = (
            client(&daemons[0], ONE),
            client(daemons.last().unwrap(), ONE),
        );
        let body = json!({
            "to": [{ "email": "Ann.Lee@Example.ORG" }],
            "content": { "subject": "Grüße", "text": "Good day.\nSee https://example.com/a?b=1&c=2" },
            "category": "news",
        });
        let request = one.request(Method::POST, NOTIFICATIONS).json(&body);
        let request = request.header("idempotency-key", "one");
        let answered = request.try_clone().unwrap().send().await.unwrap();
        assert_eq!(answered.status(), 202);
        let location = answered.headers()["location"].to_str().unwrap().to_owned();
        let sent: Value = answered.json().await.unwrap();
        assert_eq!(
            location,
            format!("{NOTIFICATIONS}/{}", sent["id"].as_str().unwrap())
        );
        let first = &sent["deliveries"][0];
        assert_eq!(first.as_object().unwrap().len(), 4, "{sent}");
        assert_eq!(
            (&first["channel"], &first["recipient"]),
            (&json!("email"), &json!("Ann.Lee@example.org"))
        );
        assert_eq!(first["state"], "queued");
        let again = request.send().await.unwrap();
        assert_eq!(again.headers()["idempotent-replayed"], "true");
        assert_eq!(again.json::<Value>().await.unwrap(), sent);

        let path = delivery(&sent);
        let done = last.until_delivery(&path, "accepted").await;
        let words = done["answer"].as_str().unwrap();
        assert!(words.starts_with("250 2.0.0 Ok: queued as "), "{done}");
        assert_eq!(
            (&done["status"], &done["attempts"]),
            (&json!(250), &json!(1))
        );
        assert_eq!(done["history"][0]["status"], 250, "{done}");
        assert_eq!(done["history"].as_array().unwrap().len(), 1);

        let taken = relay.until_taken(1).await;
        assert_eq!(taken.len(), 1, "the key makes it one");
        let mail = &taken[0];
        assert_eq!(
            (&*mail.from, &*mail.to),
            (
                "noreply@example.com",
                &["Ann.Lee@example.org".to_owned()][..]
            )
        );
        assert!(
            mail.header("from").unwrap().contains("The House"),
            "{mail:?}"
        );
        let id = done["id"].as_str().unwrap();
        assert_eq!(
            mail.header("message-id").unwrap(),
            format!("<{id}@example.com>")
        );
        assert_eq!(
            mail.header("list-unsubscribe-post").unwrap(),
            "List-Unsubscribe=One-Click"
        );
        let unsubscribe = mail.header("list-unsubscribe").unwrap();
        assert!(
            unsubscribe.starts_with("<http://localhost:8000/api/v1/u/"),
            "{unsubscribe}"
        );
        assert!(
            mail.header("subject").unwrap().starts_with("=?utf-8?"),
            "{mail:?}"
        );
        for kind in ["multipart/alternative", "text/plain", "text/html"] {
            assert!(mail.content.contains(kind), "{kind}: {mail:?}");
        }

        let found = last.get(&location).await.1;
        assert_eq!(
            (&found["category"], &found["deliveries"][0]["state"]),
            (&json!("news"), &json!("accepted"))
        );
        let listed = last
            .get(&format!("{DELIVERIES}?state=accepted&channel=email"))
            .await
            .1;
        assert_eq!(listed["items"][0]["id"], *id, "{listed}");
        assert_eq!(
            problem(&last.get(&format!("{DELIVERIES}?state=sent")).await),
            (400, "invalid_query", "state")
        );
        let other = client(&daemons[0], OTHER);
        for path in [&location, &path] {
            assert_eq!(other.get(path).await.0, 404);
        }
        let none = other.get(DELIVERIES).await.1;
        assert_eq!(none["items"], json!([]));
    }
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_by_the_field_at_fault() {
    let relay = Smtp::start().await;
    let daemon = mailing_daemon(relay.port).await;
    let one = client(&daemon, ONE);
    let with = |change: Value| {
        let mut body = mail_to("ann@example.com");
        for (field, value) in change.as_object().unwrap() {
            body[field] = value.clone();
        }
        body
    };
    let content = |field: &str, value: &str| {
        with(json!({ "content": { "subject": "a", "text": "b", field: value } }))
    };
    let to = |to: Value| with(json!({ "to": [to] }));
    let many: Vec<_> = (0..10_000)
        .map(|it| json!({ "email": format!("a{it}@example.com") }))
        .collect();
    for (body, status, code, field) in [
        // Nothing that would end a header.
        (
            content("subject", "a\r\nBcc: x@example.com"),
            422,
            "validation",
            "content.subject",
        ),
        (
            content("subject", "a\nBcc: x@example.com"),
            422,
            "validation",
            "content.subject",
        ),
        (
            content("subject", "a\u{2028}b"),
            422,
            "validation",
            "content.subject",
        ),
        (content("title", "a\rb"), 422, "validation", "content.title"),
        (
            to(json!({ "email": "ann@example.com\r\nBcc: x@example.com" })),
            422,
            "validation",
            "to[0].email",
        ),
        (
            to(json!({ "email": "ann@example.com, bob@example.com" })),
            422,
            "validation",
            "to[0].email",
        ),
        (
            to(json!({ "email": "Ann <ann@example.com>" })),
            422,
            "validation",
            "to[0].email",
        ),
        // Letters that look like others.
        (
            to(json!({ "email": "\u{430}nn@example.com" })),
            422,
            "validation",
            "to[0].email",
        ),
        (
            to(json!({ "email": "ann@exam\u{200b}ple.com" })),
            422,
            "validation",
            "to[0].email",
        ),
        (to(json!({})), 422, "validation", "to[0]"),
        (
            to(json!({ "email": "a@example.com", "phone": "1" })),
            422,
            "validation",
            "to[0]",
        ),
        (
            to(json!({ "phone": "+49301234" })),
            422,
            "sms_not_configured",
            "channels",
        ),
        (
            to(json!({ "url": "https://example.com" })),
            422,
            "webhook_not_configured",
            "channels",
        ),
        (
            with(json!({ "channels": ["sms"] })),
            422,
            "sms_not_configured",
            "channels",
        ),
        (
            with(json!({ "channels": ["web_push"] })),
            422,
            "web_push_not_configured",
            "channels",
        ),
        (
            with(json!({ "channels": ["in_app"] })),
            422,
            "validation",
            "to[0].email",
        ),
        (
            with(json!({ "channels": ["pigeon"] })),
            400,
            "invalid_body",
            "channels[0]",
        ),
        (with(json!({ "to": [] })), 422, "validation", "to"),
        (with(json!({ "to": many })), 422, "validation", "to"),
        (
            with(json!({ "content": { "subject": "a" } })),
            422,
            "validation",
            "content.text",
        ),
        (
            with(json!({ "content": { "text": "a" } })),
            422,
            "validation",
            "content.subject",
        ),
        (
            with(json!({ "template": "welcome" })),
            422,
            "validation",
            "template",
        ),
        (
            with(json!({ "category": "News" })),
            422,
            "validation",
            "category",
        ),
        (
            with(json!({ "expires_at": "2020-01-01T00:00:00Z" })),
            422,
            "validation",
            "expires_at",
        ),
        (
            with(json!({ "colour": 1 })),
            400,
            "unknown_fields",
            "colour",
        ),
        (
            with(json!({ "data": { "a": 1 } })),
            422,
            "validation",
            "data",
        ),
    ] {
        let answered = one.post(NOTIFICATIONS, body.clone()).await;
        assert_eq!(
            problem(&answered),
            (status, code, field),
            "{body:.200}: {answered:?}"
        );
    }
    let mut unknown = mail_to("ann@example.com");
    unknown.as_object_mut().unwrap().remove("content");
    unknown["template"] = "welcome".into();
    assert_eq!(
        problem(&one.post(NOTIFICATIONS, unknown).await),
        (422, "validation", "template")
    );
    assert!(relay.taken().is_empty());
    assert_eq!(one.get(DELIVERIES).await.1["items"], json!([]));
}

#[tokio::test]
async fn one_recipient_gets_one_mail_and_a_thousand_get_one_each() {
    let relay = Smtp::start().await;
    let daemon = mailing_daemon(relay.port).await;
    let one = client(&daemon, ONE);
    let mut body = mail_to("ann@example.com");
    body["to"] = json!([
        { "email": "ann@example.com" }, { "email": "ANN@example.com" }, { "email": " ann@EXAMPLE.com" },
    ]);
    let sent = one.send(body).await;
    assert_eq!(sent["deliveries"].as_array().unwrap().len(), 1, "{sent}");
    relay.until_taken(1).await;

    let all: Vec<_> = (0..1000)
        .map(|it| json!({ "email": format!("a{it}@example.com") }))
        .collect();
    let mut body = mail_to("ann@example.com");
    body["to"] = all.into();
    let sent = one.send(body).await;
    assert_eq!(sent["deliveries"].as_array().unwrap().len(), 1000);
    // While it goes on.
    let mut count = 0;
    while count < 1001 {
        count = eventually("more mails to be taken", || async {
            let taken = relay.taken().len();
            (taken > count).then_some(taken)
        })
        .await;
    }
    let taken = relay.taken();
    let mut to: Vec<_> = taken.iter().map(|it| it.to[0].clone()).collect();
    to.sort();
    to.dedup();
    assert_eq!((taken.len(), to.len()), (1001, 1001));
}

#[tokio::test]
async fn without_a_relay_mail_is_held_to_be_read_and_refused_where_that_is_off() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let daemon = tenants(&url).spawn().await;
        daemon.until("/ready", 200).await;
        let one = client(&daemon, ONE);
        let sent = one.send(mail_to("ann@example.com")).await;
        assert_eq!(sent["deliveries"][0]["state"], "held");
        let held = one.get("/api/v1/notifications/outbox").await.1;
        let mail = &held["items"][0];
        assert_eq!(
            (&mail["to"], &mail["subject"]),
            (&json!("ann@example.com"), &json!("Hello")),
            "{held}"
        );
        assert_eq!(mail["links"], json!(["https://example.com/a?b=1"]));
        let page = one.request(Method::GET, "/api/v1/notifications/outbox");
        let page = page
            .header("accept", "text/html,*/*;q=0.8")
            .send()
            .await
            .unwrap();
        assert!(
            page.headers()["content-type"]
                .to_str()
                .unwrap()
                .starts_with("text/html")
        );
        let page = page.text().await.unwrap();
        assert!(
            page.contains("<a href=\"https://example.com/a?b=1\""),
            "{page}"
        );
        let none = client(&daemon, OTHER)
            .get("/api/v1/notifications/outbox")
            .await
            .1;
        assert_eq!(none["items"], json!([]));
        let retried =
            answer(one.request(Method::POST, &format!("{}/retry", delivery(&sent)))).await;
        assert_eq!(problem(&retried).1, "email_not_configured");
    }
    let daemon = tenants("sqlite:dotmac.db").env("DOTMAC_NOTIFICATIONS_OUTBOX", "false");
    let daemon = daemon.spawn().await;
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    let refused = one.post(NOTIFICATIONS, mail_to("ann@example.com")).await;
    assert_eq!(problem(&refused).1, "email_not_configured", "{refused:?}");
    let refused = one.get("/api/v1/notifications/outbox").await;
    assert_eq!(problem(&refused).1, "outbox_disabled", "{refused:?}");
}

#[tokio::test]
async fn a_recipient_unsubscribes_by_one_click_from_that_category_alone() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let relay = Smtp::start().await;
        let daemon = mailing(&url, relay.port).spawn().await;
        daemon.until("/ready", 200).await;
        let one = client(&daemon, ONE);
        let of = |category: &str| {
            let mut body = mail_to("ann@example.com");
            body["category"] = category.into();
            body
        };
        one.send(of("news")).await;
        let link = relay.until_taken(1).await[0]
            .header("list-unsubscribe")
            .unwrap();
        let path = link
            .trim_matches(['<', '>'])
            .strip_prefix("http://localhost:8000")
            .unwrap();
        let url_of = |path: &str| format!("{}{path}", daemon.base);

        // Who looks changes nothing: mail programs fetch links by themselves.
        let page = daemon.client.get(url_of(path)).send().await.unwrap();
        assert_eq!(page.status(), 200);
        assert!(
            page.text()
                .await
                .unwrap()
                .contains("<form method=\"post\">")
        );
        assert_eq!(one.get("/api/v1/suppressions").await.1["items"], json!([]));
        // The request of a mail program.
        for _ in 0..2 {
            let click = daemon
                .client
                .post(url_of(path))
                .header("content-type", "application/x-www-form-urlencoded");
            let click = click
                .body("List-Unsubscribe=One-Click")
                .send()
                .await
                .unwrap();
            assert_eq!(click.status(), 200);
        }
        let suppressed = one
            .get("/api/v1/suppressions?recipient=ANN@example.com")
            .await
            .1;
        let items = suppressed["items"].as_array().unwrap();
        assert_eq!(items.len(), 1, "{suppressed}");
        assert_eq!(
            (&items[0]["category"], &items[0]["reason"]),
            (&json!("news"), &json!("unsubscribed"))
        );

        let refused = delivery(&one.send(of("news")).await);
        let found = one.until_delivery(&refused, "suppressed").await;
        assert_eq!(found["reason"], "unsubscribed");
        for category in ["other", "transactional"] {
            let sent = delivery(&one.send(of(category)).await);
            one.until_delivery(&sent, "accepted").await;
        }
        let last = relay.until_taken(3).await.pop().unwrap();
        assert_eq!(
            last.header("list-unsubscribe"),
            None,
            "a transactional mail has none"
        );
        let unknown = daemon
            .client
            .post(url_of(&format!("/api/v1/u/{}", "0".repeat(32))));
        assert_eq!(unknown.send().await.unwrap().status(), 404);

        let id = items[0]["id"].as_str().unwrap();
        let tag = items[0]["etag"].as_str().unwrap();
        let path = format!("/api/v1/suppressions/{id}");
        for (tag, status) in [(None, 428), (Some("\"7\""), 412), (Some(tag), 204)] {
            assert_eq!(one.delete(&path, tag).await, status);
        }
        assert_eq!(one.delete(&path, Some(tag)).await, 404);
        let sent = delivery(&one.send(of("news")).await);
        one.until_delivery(&sent, "accepted").await;
    }
}
