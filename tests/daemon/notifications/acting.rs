//! Deliveries that are scheduled, expire, are called off or put back.

use super::*;

#[tokio::test]
async fn what_waits_can_be_called_off_and_expires() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let relay = Smtp::start().await;
        let daemon = mailing(&url, relay.port).spawn().await;
        daemon.until("/ready", 200).await;
        let one = client(&daemon, ONE);
        let mut later = mail_to("ann@example.com");
        later["send_at"] = "2099-01-01T00:00:00Z".into();
        let path = delivery(&one.send(later).await);
        let found = one.delivery_state(&path).await;
        assert_eq!(
            (&found["state"], &found["attempts"]),
            (&json!("queued"), &json!(0))
        );
        assert_eq!(found["next_attempt_at"], "2099-01-01T00:00:00Z");
        let cancelled = one.post(&format!("{path}/cancel"), json!({})).await;
        assert_eq!(
            (cancelled.0, &cancelled.1["state"]),
            (200, &json!("cancelled"))
        );
        let again = one.post(&format!("{path}/cancel"), json!({})).await;
        assert_eq!(problem(&again).1, "delivery_state");
        let other = client(&daemon, OTHER)
            .post(&format!("{path}/retry"), json!({}))
            .await;
        assert_eq!(other.0, 404);

        // It is sent after all.
        assert_eq!(one.post(&format!("{path}/retry"), json!({})).await.0, 200);
        one.until_delivery(&path, "accepted").await;
        let refused = one.post(&format!("{path}/retry"), json!({})).await;
        assert_eq!(
            problem(&refused).1,
            "delivery_state",
            "it would be sent twice"
        );

        // A mail that the relay does not accept in time has expired.
        relay.answer("rcpt", "451 4.3.0 later");
        let mut short = mail_to("bob@example.com");
        short["expires_at"] = json!(in_seconds(2));
        let path = delivery(&one.send(short).await);
        one.until_retrying(&path, 1).await;
        relay.behave();
        tokio::time::sleep(Duration::from_secs(2)).await;
        one.hurry().await;
        let found = one.until_delivery(&path, "cancelled").await;
        assert_eq!(found["reason"], "expired");
        assert_eq!(relay.taken().len(), 1);
    }
}

#[tokio::test]
async fn what_is_scheduled_is_sent_at_its_time_and_judged_then() {
    let relay = Smtp::start().await;
    let daemon = mailing_daemon(relay.port).await;
    let one = client(&daemon, ONE);
    let scheduled = json!({
        "to": [{ "user": ONE }, { "email": "ann@example.com" }],
        "content": { "subject": "Soon", "text": "It is time." },
        "category": "news",
        "send_at": in_seconds(3),
    });
    let sent = one.send(scheduled.clone()).await;
    assert_eq!(sent["deliveries"].as_array().unwrap().len(), 2, "{sent}");
    assert_eq!(one.get("/api/v1/inbox").await.1["items"], json!([]));
    assert!(relay.taken().is_empty());
    let path = delivery(&sent);
    one.until_delivery(&path, "delivered").await;
    relay.until_taken(1).await;
    assert_eq!(
        one.get("/api/v1/inbox").await.1["items"][0]["title"],
        "Soon"
    );

    let mut unwanted = scheduled;
    unwanted["send_at"] = in_seconds(2).into();
    let path = delivery(&one.send(unwanted).await);
    let no_news = json!({ "items": [{ "category": "news", "channel": "*", "enabled": false }] });
    let put = one
        .request(reqwest::Method::PUT, "/api/v1/preferences")
        .json(&no_news);
    assert_eq!(put.send().await.unwrap().status(), 200);
    let found = one.until_delivery(&path, "suppressed").await;
    assert_eq!(found["reason"], "preference");
}
