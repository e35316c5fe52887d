//! What relays report over HTTP: bounces, complaints, delays; signed, and taken once.

use super::*;
use crate::events::{answer, instances};

const REPORTS: &str = "/api/v1/notifications/reports";
const SUPPRESSIONS: &str = "/api/v1/suppressions";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn reporting(url: &str, port: u16) -> Builder {
    mailing(url, port).env("DOTMAC_NOTIFICATIONS_REPORT_SECRET", SECRET)
}

/// A call as a relay makes it, signed by the standard's own library.
struct Call<'a> {
    id: &'a str,
    seconds_ago: i64,
    secret: &'a str,
    body: String,
}

impl<'a> Call<'a> {
    fn new(id: &'a str, body: &Value) -> Self {
        Self {
            id,
            seconds_ago: 0,
            secret: SECRET,
            body: body.to_string(),
        }
    }

    async fn make(self, daemon: &Daemon) -> (u16, Value) {
        let at = chrono::Utc::now().timestamp() - self.seconds_ago;
        let signer = standardwebhooks::Webhook::new(self.secret).unwrap();
        let signature = signer.sign(self.id, at, self.body.as_bytes()).unwrap();
        let request = daemon
            .client
            .post(format!("{}{REPORTS}", daemon.base))
            .header("content-type", "application/json")
            .header("webhook-id", self.id)
            .header("webhook-timestamp", at)
            .header("webhook-signature", signature);
        answer(request.body(self.body)).await
    }
}

/// Sends a mail that the relay takes: the path of its delivery, and its `Message-ID`.
async fn accepted(one: &Client<'_>, relay: &Smtp, address: &str) -> (String, String) {
    let path = one.mail(address).await;
    one.until_delivery(&path, "accepted").await;
    let taken = eventually("the mail to be taken", || async {
        let taken = relay.taken();
        taken.into_iter().find(|it| it.to[0] == address)
    })
    .await;
    (path, taken.header("message-id").unwrap())
}

async fn suppressions(one: &Client<'_>) -> Vec<(String, String)> {
    let found = one.get(SUPPRESSIONS).await.1;
    let text = |it: &Value| it.as_str().unwrap().to_owned();
    let items = found["items"].as_array().unwrap().iter();
    items
        .map(|it| (text(&it["recipient"]), text(&it["reason"])))
        .collect()
}

#[tokio::test]
async fn what_a_relay_reports_is_written_down_once_on_both_back_ends() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let relay = Smtp::start().await;
        let daemons = instances(|| reporting(&url, relay.port), &url).await;
        let (first, last) = (&daemons[0], daemons.last().unwrap());
        let one = client(first, ONE);

        let (path, message) = accepted(&one, &relay, "gone@example.org").await;
        let words = "550 5.1.1 <gone@example.org>: unknown";
        let report = json!({
            "kind": "bounced", "message_id": message, "recipient": "Gone@example.org", "status": "5.1.1", "words": words,
        });
        let id = path.rsplit('/').next().unwrap();
        assert_eq!(
            Call::new("msg_1", &report).make(first).await,
            (
                200,
                json!({ "result": "changed", "delivery": id, "state": "bounced" })
            )
        );
        let found = one.delivery_state(&path).await;
        assert_eq!(
            (&found["state"], &found["reason"], &found["answer"]),
            (&json!("bounced"), &json!("reported"), &json!(words))
        );
        assert_eq!(
            suppressions(&one).await,
            [("gone@example.org".to_owned(), "bounced".to_owned())]
        );
        let next = one.mail("gone@example.org").await;
        one.until_delivery(&next, "suppressed").await;

        // The same call again, to another instance: it changes nothing, even if its effect was undone meanwhile.
        let id = one.get(SUPPRESSIONS).await.1["items"][0]["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let suppression = format!("{SUPPRESSIONS}/{id}");
        assert_eq!(one.delete(&suppression, Some("*")).await, 204);
        let again = Call::new("msg_1", &report).make(last).await;
        assert_eq!((again.0, &again.1["result"]), (200, &json!("repeated")));
        assert_eq!(suppressions(&one).await, []);
        // Another one about it is news.
        let again = Call::new("msg_2", &report).make(last).await;
        assert_eq!((again.0, &again.1["result"]), (200, &json!("unchanged")));
        assert_eq!(suppressions(&one).await.len(), 1);

        // A mailbox that is full is there still, unless the relay knows better.
        for (number, (address, permanent, expected)) in [
            ("full@example.org", Value::Null, 1),
            ("never@example.org", json!(true), 2),
        ]
        .into_iter()
        .enumerate()
        {
            let (path, message) = accepted(&one, &relay, address).await;
            let report = json!({
                "kind": "bounced", "message_id": message, "status": "5.2.2", "permanent": permanent,
            });
            let call = format!("msg_full_{number}");
            let taken = Call::new(&call, &report).make(first).await;
            assert_eq!(taken.1["state"], "bounced", "{taken:?}");
            one.until_delivery(&path, "bounced").await;
            assert_eq!(suppressions(&one).await.len(), expected, "{address}");
        }

        // A delay is written down, and what follows it too.
        let (path, message) = accepted(&one, &relay, "later@example.org").await;
        let report =
            json!({ "kind": "deferred", "message_id": message, "words": "451 4.7.1 greylisted" });
        let taken = Call::new("msg_later", &report).make(last).await;
        assert_eq!(taken.1["result"], "unchanged", "{taken:?}");
        let found = one.delivery_state(&path).await;
        assert_eq!(
            (&found["state"], &found["reason"], &found["answer"]),
            (
                &json!("accepted"),
                &json!("deferred"),
                &json!("451 4.7.1 greylisted")
            )
        );
        let report = json!({ "kind": "delivered", "message_id": message, "words": "250 2.0.0 Ok" });
        let taken = Call::new("msg_there", &report).make(last).await;
        assert_eq!(taken.1["state"], "delivered", "{taken:?}");

        // A complaint ends all mail to its recipient, also what is transactional.
        let report = json!({ "kind": "complained", "message_id": message });
        let taken = Call::new("msg_spam", &report).make(first).await;
        assert_eq!(taken.0, 200, "{taken:?}");
        assert_eq!(one.delivery_state(&path).await["reason"], "complained");
        let mut next = mail_to("later@example.org");
        next["category"] = "transactional".into();
        let next = delivery(&one.send(next).await);
        let found = one.until_delivery(&next, "suppressed").await;
        assert_eq!(found["reason"], "complained", "{found}");

        let acts = eventually("the reports to be in the log", || async {
            let path = "/api/v1/audit/events?action=notification_bounce&limit=50";
            let acts = one.get(path).await.1;
            (acts["items"].as_array()?.len() >= 8).then_some(acts)
        })
        .await;
        assert!(!acts.to_string().contains("example.org"), "{acts}");
        drop(daemons);
    }
}

#[tokio::test]
async fn a_report_that_comes_before_the_answer_of_the_relay_is_to_come_again() {
    let relay = Smtp::start().await;
    let daemon = reporting("sqlite:dotmac.db", relay.port).spawn().await;
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    relay.answer("content", "hang");
    let mut later = mail_to("gone@example.org");
    later["send_at"] = in_seconds(2).into();
    let path = delivery(&one.send(later).await);
    let id = path.rsplit('/').next().unwrap();
    let report = json!({ "kind": "bounced", "message_id": format!("<{id}@example.com>"), "permanent": true });
    let queued = one.delivery_state(&path).await;
    eventually("the relay to be given the content", || async {
        let found = one.delivery_state(&path).await;
        (found["updated_at"] != queued["updated_at"]).then_some(())
    })
    .await;
    let early = Call::new("msg_early", &report).make(&daemon).await;
    assert_eq!((early.0, problem(&early).1), (503, "too_early"));
    assert_eq!(suppressions(&one).await, []);
    one.until_delivery(&path, "unknown").await;
    let taken = Call::new("msg_early", &report).make(&daemon).await;
    assert_eq!(taken.1["result"], "changed", "{taken:?}");
    one.until_delivery(&path, "bounced").await;
    assert_eq!(suppressions(&one).await.len(), 1);
}

#[tokio::test]
async fn a_report_is_about_the_tenant_whose_mail_it_is() {
    let relay = Smtp::start().await;
    let daemon = reporting("sqlite:dotmac.db", relay.port)
        .env("DOTMAC_SMTP_BOUNCE_ADDRESS", "bounces@example.com")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let (one, other) = (client(&daemon, ONE), client(&daemon, OTHER));
    accepted(&one, &relay, "ann@example.org").await;
    let path = other.mail("ann@example.org").await;
    other.until_delivery(&path, "accepted").await;
    let taken = relay.until_taken(2).await;
    let id = path.rsplit('/').next().unwrap();
    let mail = taken
        .iter()
        .find(|it| it.header("message-id").unwrap().contains(id));
    let report = json!({ "kind": "complained", "sender": mail.unwrap().from });
    let taken = Call::new("msg_1", &report).make(&daemon).await;
    assert_eq!(taken.1["delivery"], id, "{taken:?}");
    assert_eq!(suppressions(&one).await, []);
    assert_eq!(suppressions(&other).await.len(), 1);
}

#[tokio::test]
async fn what_is_not_signed_now_or_says_nothing_right_is_refused() {
    let relay = Smtp::start().await;
    let daemon = reporting("sqlite:dotmac.db", relay.port).spawn().await;
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    let (path, message) = accepted(&one, &relay, "ann@example.org").await;
    let right = json!({ "kind": "bounced", "message_id": message, "permanent": true });

    let unsigned = one.post(REPORTS, right.clone()).await;
    assert_eq!(
        (unsigned.0, problem(&unsigned).1),
        (401, "invalid_signature")
    );
    for (seconds_ago, secret, code) in [
        (
            0,
            "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "invalid_signature",
        ),
        (400, SECRET, "signature_expired"),
        (-400, SECRET, "signature_expired"),
    ] {
        let call = Call {
            seconds_ago,
            secret,
            ..Call::new("msg_1", &right)
        };
        let refused = call.make(&daemon).await;
        assert_eq!((refused.0, problem(&refused).1), (401, code));
    }
    let large = Call {
        body: format!(
            "{{\"kind\":\"bounced\",\"words\":\"{}\"}}",
            "a".repeat(20_000)
        ),
        ..Call::new("msg_1", &right)
    };
    let refused = large.make(&daemon).await;
    assert_eq!((refused.0, problem(&refused).1), (413, "body_too_large"));
    let with = |field: &str, value: Value| {
        let mut report = right.clone();
        report[field] = value;
        report
    };
    for (report, expected) in [
        (with("kind", json!("eaten")), (400, "invalid_body", "kind")),
        (
            with("tenant", json!(ONE)),
            (400, "unknown_fields", "tenant"),
        ),
        (
            with("sender", json!("bounces@example.com")),
            (422, "validation", "message_id"),
        ),
        (
            json!({ "kind": "bounced" }),
            (422, "validation", "message_id"),
        ),
        (
            with("recipient", json!("bob@example.org")),
            (422, "validation", "recipient"),
        ),
        (
            with("words", json!("a".repeat(5000))),
            (422, "validation", "words"),
        ),
    ] {
        let refused = Call::new("msg_1", &report).make(&daemon).await;
        assert_eq!(problem(&refused), expected, "{report}");
    }
    for message in [
        "<none@example.com>",
        "<01935c4e-8a00-7000-8000-000000000001@example.com>",
    ] {
        let report = json!({ "kind": "bounced", "message_id": message });
        let taken = Call::new("msg_1", &report).make(&daemon).await;
        assert_eq!((taken.0, &taken.1["result"]), (200, &json!("unknown")));
    }
    // None of these had an effect, and none used the id up.
    assert_eq!(one.delivery_state(&path).await["state"], "accepted");
    let taken = Call::new("msg_1", &right).make(&daemon).await;
    assert_eq!(taken.1["result"], "changed", "{taken:?}");
    let log = daemon.lines().join("\n");
    assert!(
        !log.contains("example.org") && !log.contains(&SECRET[6..]),
        "{log}"
    );

    let without = mailing_daemon(relay.port).await;
    let refused = Call::new("msg_1", &right).make(&without).await;
    assert_eq!(
        (refused.0, problem(&refused).1),
        (422, "reports_not_configured")
    );
}
