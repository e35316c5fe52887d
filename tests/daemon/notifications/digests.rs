//! Several messages to one recipient that become one mail.

use super::*;
use crate::events::instances;

fn comment(to: &[&str], subject: &str) -> Value {
    let to: Vec<_> = to.iter().map(|it| json!({ "email": it })).collect();
    json!({
        "to": to,
        "content": { "subject": subject, "text": format!("{subject} wrote something.") },
        "category": "comments",
        "digest": { "key": "post-7", "window": "1h" },
    })
}

/// Has the digest be due.
async fn close(one: &Client<'_>) {
    let path = format!("{JOBS}?kind=notifications.deliver&state=scheduled");
    let jobs = one.get(&path).await.1;
    for job in jobs["items"].as_array().unwrap() {
        let id = job["id"].as_str().unwrap();
        let run = one.post(&format!("{JOBS}/{id}/run-now"), json!({})).await;
        assert_eq!(run.0, 200, "{run:?}");
    }
}

#[tokio::test]
async fn messages_of_one_key_become_one_mail_with_one_outcome_on_both_back_ends() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let relay = Smtp::start().await;
        let daemons = instances(|| mailing(&url, relay.port), &url).await;
        let (one, last) = (
            client(&daemons[0], ONE),
            client(daemons.last().unwrap(), ONE),
        );
        let mut sent = Vec::new();
        for (place, name) in ["Ann", "Bob", "Eve"].into_iter().enumerate() {
            let by = if place == 1 { &last } else { &one };
            sent.push(delivery(
                &by.send(comment(&["dan@example.com"], name)).await,
            ));
        }
        let other = delivery(&one.send(comment(&["fay@example.com"], "Gil")).await);
        let first = one.delivery_state(&sent[0]).await;
        for path in &sent {
            let found = last.delivery_state(path).await;
            assert_eq!(
                (&found["state"], &found["digest_of"]),
                (&json!("queued"), &first["id"]),
                "{found}"
            );
        }
        assert!(relay.taken().is_empty());
        // One is called off: what is left is sent with the next.
        let cancelled = one.post(&format!("{}/cancel", sent[0]), json!({})).await;
        assert_eq!(cancelled.0, 200, "{cancelled:?}");
        let second = one.delivery_state(&sent[1]).await;
        assert_eq!(second["digest_of"], second["id"], "{second}");
        close(&one).await;
        for path in &sent[1..] {
            let found = one.until_delivery(path, "accepted").await;
            assert_eq!(found["history"].as_array().unwrap().len(), 1, "{found}");
        }
        one.until_delivery(&other, "accepted").await;
        let taken = relay.until_taken(2).await;
        assert_eq!(taken.len(), 2, "{taken:?}");
        let mail = taken
            .iter()
            .find(|it| it.to[0] == "dan@example.com")
            .unwrap();
        assert_eq!(mail.header("subject").as_deref(), Some("Bob (+1)"));
        for text in ["Bob wrote something.", "Eve wrote something."] {
            assert!(mail.content.contains(text), "{mail:?}");
        }
        assert!(!mail.content.contains("Ann wrote"), "{mail:?}");

        // Later items are another mail, and all items have its outcome.
        let again: Vec<_> = [
            delivery(&one.send(comment(&["dan@example.com"], "Hal")).await),
            delivery(&last.send(comment(&["dan@example.com"], "Ida")).await),
        ]
        .into();
        relay.answer("rcpt", "550 5.7.1 denied");
        close(&one).await;
        for path in &again {
            let found = one.until_delivery(path, "bounced").await;
            assert_eq!(
                (&found["status"], &found["attempts"]),
                (&json!(550), &json!(1)),
                "{found}"
            );
        }
        // Each can be sent by itself.
        relay.behave();
        let retried = one.post(&format!("{}/retry", again[1]), json!({})).await;
        assert_eq!(retried.0, 200, "{retried:?}");
        one.until_delivery(&again[1], "accepted").await;
        let last_mail = relay.until_taken(3).await.pop().unwrap();
        assert_eq!(last_mail.header("subject").as_deref(), Some("Ida"));
    }
}

#[tokio::test]
async fn messages_that_come_at_once_are_in_one_mail_each_exactly_once() {
    let postgres = Postgres::start().await;
    let relay = Smtp::start().await;
    let daemons = instances(|| mailing(&postgres.url(), relay.port), &postgres.url()).await;
    let clients: Vec<_> = daemons.iter().map(|it| client(it, ONE)).collect();
    let sending = (0..30).map(|number| {
        let one = &clients[number % clients.len()];
        let body = comment(
            &["dan@example.com", "fay@example.com"],
            &format!("N{number}."),
        );
        async move { one.send(body).await }
    });
    futures_util::future::join_all(sending).await;
    close(&clients[0]).await;
    let taken = relay.until_taken(2).await;
    assert_eq!(taken.len(), 2, "one for each recipient");
    for mail in &taken {
        // Long lines are folded.
        let content = mail.content.replace("=\r\n", "");
        for number in 0..30 {
            let text = format!("N{number}. wrote something.");
            assert_eq!(content.matches(&text).count(), 2, "{text}: {mail:?}");
        }
    }
}

#[tokio::test]
async fn what_cannot_wait_for_others_is_refused() {
    let relay = Smtp::start().await;
    let daemon = mailing_daemon(relay.port).await;
    let one = client(&daemon, ONE);
    let with = |field: &str, value: Value| {
        let mut body = comment(&["dan@example.com"], "Ann");
        match field.split_once('.') {
            Some((outer, inner)) => body[outer][inner] = value,
            None => body[field] = value,
        }
        body
    };
    for (field, value, at) in [
        ("digest.window", json!("59s"), "digest.window"),
        ("digest.window", json!("8d"), "digest.window"),
        ("digest.window", json!("soon"), "digest.window"),
        ("digest.key", json!(""), "digest.key"),
        ("category", json!("transactional"), "digest"),
        ("send_at", json!("2099-01-01T00:00:00Z"), "digest"),
        ("expires_at", json!("2099-01-01T00:00:00Z"), "digest"),
    ] {
        let refused = one.post(NOTIFICATIONS, with(field, value)).await;
        assert_eq!(
            problem(&refused),
            (422, "validation", at),
            "{field}: {refused:?}"
        );
    }
}
