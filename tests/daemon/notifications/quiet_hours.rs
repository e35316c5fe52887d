//! Users who are not to be disturbed.

use chrono::Timelike as _;
use reqwest::Method;

use super::*;
use crate::events::answer;

const PREFERENCES: &str = "/api/v1/preferences";

/// Quiet hours of the next two hours, and those that are over or to come, by the clock of UTC.
fn hours(begin: i64, end: i64) -> Value {
    let now = chrono::Utc::now();
    let clock = |hours: i64| {
        let time = now + chrono::TimeDelta::hours(hours);
        format!("{:02}:{:02}", time.hour(), time.minute())
    };
    json!({ "from": clock(begin), "to": clock(end), "zone": "UTC" })
}

async fn prefer(one: &Client<'_>, body: Value) -> (u16, Value) {
    answer(one.request(Method::PUT, PREFERENCES).json(&body)).await
}

/// In the clear, and to a user: a push message, whose push service is an address of nothing.
fn quiet(url: &str) -> Builder {
    tenants(url)
        .env(
            "DOTMAC_APP_MASTER_KEY",
            "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=",
        )
        .env(
            "DOTMAC_NOTIFICATIONS_PUSH_KEY",
            "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw",
        )
}

#[tokio::test]
async fn a_message_waits_for_the_end_of_quiet_hours_and_the_decision_is_kept() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let daemon = quiet(&url).spawn().await;
        daemon.until("/ready", 200).await;
        let one = client(&daemon, ONE);
        let service = crate::support::fakes::FakeHttpServer::start(|_, stream| {
            crate::support::fakes::write_answer(stream, "201 Created", "")
        });
        let browser = crate::support::push::Browser::new();
        let new = json!({
            "endpoint": service.address(),
            "keys": { "p256dh": browser.p256dh, "auth": browser.auth },
        });
        assert_eq!(one.post("/api/v1/push/subscriptions", new).await.0, 201);
        let now = hours(-1, 1);
        let (status, set) = prefer(&one, json!({ "items": [], "quiet_hours": now })).await;
        assert_eq!((status, &set["quiet_hours"]), (200, &now), "{set}");
        assert_eq!(one.get(PREFERENCES).await.1, set);

        let message = |category: &str, priority: &str| {
            json!({
                "to": [{ "user": ONE }],
                "channels": ["web_push", "in_app"],
                "content": { "title": "Hello", "body": "Good day." },
                "category": category,
                "priority": priority,
            })
        };
        let by = |sent: &Value, channel: &str| {
            let all = sent["deliveries"].as_array().unwrap();
            let it = all.iter().find(|it| it["channel"] == channel).unwrap();
            format!("{DELIVERIES}/{}", it["id"].as_str().unwrap())
        };
        let sent = one.send(message("news", "normal")).await;
        // An item of an inbox ignores quiet hours.
        one.until_delivery(&by(&sent, "in_app"), "delivered").await;
        let path = by(&sent, "web_push");
        let waiting = eventually("the decision", || async {
            let found = one.delivery_state(&path).await;
            (found["reason"] == "quiet_hours").then_some(found)
        })
        .await;
        let to = now["to"].as_str().unwrap();
        assert_eq!(
            (&waiting["state"], &waiting["attempts"], &waiting["answer"]),
            (
                &json!("queued"),
                &json!(0),
                &json!(format!("until {to} UTC"))
            ),
            "{waiting}"
        );
        let next = waiting["next_attempt_at"].as_str().unwrap();
        assert_eq!(&next[11..16], to, "{waiting}");
        assert!(service.asked().is_empty());

        // Transactional and urgent messages are sent.
        for (category, priority) in [("transactional", "normal"), ("news", "high")] {
            let sent = one.send(message(category, priority)).await;
            one.until_delivery(&by(&sent, "web_push"), "accepted").await;
        }
        // Quiet hours that are not now.
        let (status, _) = prefer(&one, json!({ "items": [], "quiet_hours": hours(1, 2) })).await;
        assert_eq!(status, 200);
        let sent = one.send(message("news", "normal")).await;
        one.until_delivery(&by(&sent, "web_push"), "accepted").await;
        // The decision about a waiting one is repeated.
        let jobs = one
            .get(&format!("{JOBS}?kind=notifications.push&state=retrying"))
            .await
            .1;
        let job = jobs["items"][0]["id"].as_str().unwrap();
        assert_eq!(
            one.post(&format!("{JOBS}/{job}/run-now"), json!({}))
                .await
                .0,
            200
        );
        let found = one.until_delivery(&path, "accepted").await;
        assert_eq!(found["reason"], Value::Null, "{found}");
        assert_eq!(service.asked().len(), 4);

        let (_, none) = prefer(&one, json!({ "items": [] })).await;
        assert_eq!(none, json!({ "items": [] }));
    }
}

#[tokio::test]
async fn quiet_hours_that_are_none_are_refused_by_their_field() {
    let daemon = tenants("sqlite:dotmac.db").spawn().await;
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    let with = |field: &str, value: &str| {
        let mut hours = json!({ "from": "22:00", "to": "08:00", "zone": "Europe/Berlin" });
        hours[field] = value.into();
        json!({ "items": [], "quiet_hours": hours })
    };
    for (field, value) in [
        ("from", "24:00"),
        ("from", "8"),
        ("to", "noon"),
        ("to", "22:00"),
        ("zone", "Mars/Base"),
        ("zone", ""),
    ] {
        let refused = prefer(&one, with(field, value)).await;
        let at = format!("quiet_hours.{field}");
        assert_eq!(
            problem(&refused),
            (422, "validation", &*at),
            "{field} {value}"
        );
    }
    assert_eq!(prefer(&one, with("colour", "red")).await.0, 400);
}
