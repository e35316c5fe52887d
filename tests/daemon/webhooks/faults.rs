//! Nothing is lost: instances that are killed, stopped, and cut off while they send.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use serde_json::json;

use super::{DELIVERIES, client, receiver, until_asked, webhooks};
use crate::{
    events::{ONE, instances},
    support::{
        Daemon, Postgres,
        fakes::{FakeHttpServer, write_answer},
    },
};

/// A receiver that hangs until it is released.
fn hanging() -> (FakeHttpServer, Arc<AtomicBool>) {
    let is_free = Arc::new(AtomicBool::new(false));
    let free = Arc::clone(&is_free);
    let server = FakeHttpServer::start(move |_, stream| {
        while !free.load(SeqCst) {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        write_answer(stream, "204 No Content", "")
    });
    (server, is_free)
}

#[tokio::test]
async fn what_a_killed_instance_was_sending_another_one_sends() {
    let postgres = Postgres::start().await;
    let daemons = instances(|| webhooks(&postgres.url()), &postgres.url()).await;
    let [first, second]: [Daemon; 2] = daemons.try_into().ok().unwrap();
    let (mine, is_free) = hanging();
    let webhook = client(&second, ONE)
        .webhook(&mine.address(), &["custom.*"])
        .await;
    for number in 0..8 {
        let one = client(&second, ONE);
        one.event("custom.order.paid.v1", json!({ "number": number }))
            .await;
    }
    until_asked(&mine, 5).await;
    first.kill();
    is_free.store(true, SeqCst);
    let one = client(&second, ONE);
    let delivered = one.until_deliveries(&webhook, "delivered", 8).await;
    let mut sent = BTreeMap::<String, usize>::new();
    for request in mine.asked() {
        *sent
            .entry(request.header("webhook-id").unwrap().to_owned())
            .or_default() += 1;
    }
    assert_eq!(sent.len(), 8, "{sent:?}");
    for delivery in delivered {
        let detail = one.detail(&delivery).await;
        let attempts = detail["attempts"].as_array().unwrap();
        let sent = sent[detail["message_id"].as_str().unwrap()];
        assert_eq!(attempts.len(), sent, "each attempt is in the log: {detail}");
        if sent > 1 {
            let error = attempts[1]["error"].as_str().unwrap();
            assert!(error.starts_with("interrupted: "), "{error}");
        }
    }
    // What was interrupted does not count on the ladder.
    let tries = "SELECT min(tries) || ' ' || max(tries) FROM webhook_delivery";
    assert_eq!(postgres.query(tries).await, "1 1");
}

#[tokio::test]
async fn on_sqlite_the_next_start_sends_what_a_kill_cut_off() {
    let daemon = webhooks("sqlite:dotmac.db").spawn().await;
    daemon.until("/ready", 200).await;
    let (mine, is_free) = hanging();
    let webhook = client(&daemon, ONE)
        .webhook(&mine.address(), &["custom.*"])
        .await;
    for number in 0..3 {
        let one = client(&daemon, ONE);
        one.event("custom.order.paid.v1", json!({ "number": number }))
            .await;
    }
    until_asked(&mine, 3).await;
    let directory = daemon.kill();
    is_free.store(true, SeqCst);
    let daemon = webhooks("sqlite:dotmac.db").spawn_in(directory).await;
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    one.until_deliveries(&webhook, "delivered", 3).await;
    assert_eq!(
        daemon.metric("dotmac_webhooks_interrupted_total").await,
        Some(3.0)
    );
}

#[tokio::test]
async fn killed_again_and_again_no_event_is_without_its_deliveries() {
    let postgres = Postgres::start().await;
    let mut daemons = instances(|| webhooks(&postgres.url()), &postgres.url()).await;
    let mine = receiver("204 No Content");
    let webhook = client(&daemons[0], ONE)
        .webhook(&mine.address(), &["custom.*"])
        .await;
    let mut events = Vec::new();
    for round in 0..4 {
        for number in 0..10 {
            let one = client(&daemons[0], ONE);
            let data = json!({ "round": round, "number": number });
            events.push(one.event("custom.order.paid.v1", data).await);
        }
        daemons.remove(0).kill();
        let next = webhooks(&postgres.url()).spawn().await;
        next.until("/ready", 200).await;
        daemons.push(next);
    }
    let one = client(&daemons[0], ONE);
    one.until_deliveries(&webhook, "delivered", events.len())
        .await;
    let asked = mine.asked();
    for event in &events {
        let sent = asked
            .iter()
            .any(|it| it.header("webhook-id") == Some(event));
        assert!(sent, "{event} was not sent");
    }
    let query = "SELECT count(*) FROM webhook_delivery WHERE state <> 'delivered'";
    assert_eq!(postgres.query(query).await, "0");
}

#[tokio::test]
async fn an_instance_that_stops_lets_its_attempts_end_or_gives_them_back() {
    let postgres = Postgres::start().await;
    let daemon = webhooks(&postgres.url()).spawn().await;
    daemon.until("/ready", 200).await;
    let slow = FakeHttpServer::start(|_, stream| {
        std::thread::park_timeout(Duration::from_millis(700));
        write_answer(stream, "204 No Content", "")
    });
    let (never, _is_free) = hanging();
    let one = client(&daemon, ONE);
    one.webhook(&slow.address(), &["custom.*"]).await;
    one.webhook(&never.address(), &["custom.*"]).await;
    one.event("custom.order.paid.v1", json!({})).await;
    until_asked(&slow, 1).await;
    until_asked(&never, 1).await;
    assert_eq!(daemon.stop().await.code, 0);
    let states =
        "SELECT string_agg(state || ' ' || tries, ', ' ORDER BY state) FROM webhook_delivery";
    assert_eq!(postgres.query(states).await, "delivered 1, pending 0");
}

#[tokio::test]
async fn what_is_interrupted_too_often_fails_and_has_all_its_attempts_when_it_is_replayed() {
    let postgres = Postgres::start().await;
    let daemon = webhooks(&postgres.url()).spawn().await;
    daemon.until("/ready", 200).await;
    let (mine, one) = (receiver("204 No Content"), client(&daemon, ONE));
    let webhook = one.webhook(&mine.address(), &["custom.*"]).await;
    one.event("custom.order.paid.v1", json!({})).await;
    one.until_deliveries(&webhook, "delivered", 1).await;
    // As if instances were killed again and again while they sent it. There are four attempts, so eight interruptions are the end.
    const CUT_OFF: &str = "UPDATE webhook_delivery SET state = 'sending', finished_at = NULL, attempts = attempts + 40, \
                           lease = lease + 1, started_at = '2000-01-01', leased_until = '2000-01-01'";
    postgres
        .query(&format!("{CUT_OFF}, interruptions = 7"))
        .await;
    let failed = one.until_deliveries(&webhook, "failed", 1).await;
    let error = failed[0]["last_error"].as_str().unwrap();
    assert!(error.starts_with("interrupted: "), "{error}");
    let path = format!("{DELIVERIES}/{}/replay", failed[0]["id"].as_str().unwrap());
    assert_eq!(one.post(&path, json!({})).await.0, 202);
    one.until_deliveries(&webhook, "delivered", 1).await;
    // One more, after dozens of attempts in all.
    postgres.query(CUT_OFF).await;
    until_asked(&mine, 3).await;
    one.until_deliveries(&webhook, "delivered", 1).await;
    let kept = "SELECT tries || ' ' || interruptions FROM webhook_delivery";
    assert_eq!(postgres.query(kept).await, "1 1");
}
