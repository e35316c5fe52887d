//! Lanes: an endpoint that hangs, is slow, or fails delays no other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use serde_json::json;

use super::{client, path_of, receiver, until_asked, webhooks};
use crate::{
    events::{ONE, instances},
    support::{
        Postgres, eventually,
        fakes::{FakeHttpServer, FakeSilentServer, write_answer},
    },
};

#[tokio::test]
async fn an_endpoint_that_hangs_delays_no_other() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let daemons = instances(|| webhooks(&url).env("DOTMAC_WEBHOOKS_TIMEOUT", "5s"), &url).await;
        let one = client(&daemons[0], ONE);
        let (hangs, mine) = (FakeSilentServer::start(), receiver("204 No Content"));
        let address = format!("http://127.0.0.1:{}/", hangs.port);
        let hanging = one.webhook(&address, &["custom.*"]).await;
        let webhook = one.webhook(&mine.address(), &["custom.*"]).await;
        for number in 0..30 {
            one.event("custom.order.paid.v1", json!({ "number": number }))
                .await;
        }
        one.until_deliveries(&webhook, "delivered", 30).await;
        let ids = mine
            .asked()
            .into_iter()
            .map(|it| it.header("webhook-id").unwrap().to_owned());
        let mut ids: Vec<_> = ids.collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 30, "each was sent once");
        assert_eq!(mine.asked().len(), 30);
        let sending = one.deliveries(&hanging, "&state=sending").await.len();
        assert!(sending <= 5, "{sending} at once");
        // Each time-out makes its lane narrower.
        eventually("the lane to be narrow", || async {
            let (_, stats) = one.get(&format!("{}/stats", path_of(&hanging))).await;
            (stats["concurrency"] == 1 && stats["failures"].as_u64() > Some(0)).then_some(())
        })
        .await;
        let failed = one.deliveries(&hanging, "").await;
        let failed = failed
            .iter()
            .find(|it| it["last_error"].is_string())
            .unwrap();
        let error = failed["last_error"].as_str().unwrap();
        assert!(error.starts_with("timeout: "), "{error}");
    }
}

#[tokio::test]
async fn no_more_are_under_way_to_an_endpoint_than_its_lane_is_wide_on_all_instances_together() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let daemons = instances(|| webhooks(&url), &url).await;
        let one = client(&daemons[0], ONE);
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counted, highest) = (Arc::clone(&now), Arc::clone(&most));
        let slow = FakeHttpServer::start(move |_, stream| {
            highest.fetch_max(counted.fetch_add(1, SeqCst) + 1, SeqCst);
            std::thread::park_timeout(Duration::from_millis(60));
            counted.fetch_sub(1, SeqCst);
            write_answer(stream, "204 No Content", "")
        });
        let webhook = one.webhook(&slow.address(), &["custom.*"]).await;
        for number in 0..40 {
            one.event("custom.order.paid.v1", json!({ "number": number }))
                .await;
        }
        one.until_deliveries(&webhook, "delivered", 40).await;
        assert_eq!(slow.asked().len(), 40, "each was sent once");
        let most = most.load(SeqCst);
        assert!((2..=5).contains(&most), "{most} at once");
        drop(daemons);
    }
}

#[tokio::test]
async fn what_goes_quickly_is_claimed_ahead_and_is_under_way_no_wider_than_its_lane() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let daemons = instances(|| webhooks(&url), &url).await;
        let one = client(&daemons[0], ONE);
        let (now, most, count) = (
            AtomicUsize::new(0),
            Arc::new(AtomicUsize::new(0)),
            AtomicUsize::new(0),
        );
        let highest = Arc::clone(&most);
        // Every 40th is refused: what was claimed behind it goes back, and was no attempt.
        let quick = FakeHttpServer::start(move |_, stream| {
            highest.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
            std::thread::park_timeout(Duration::from_millis(1));
            let head = match count.fetch_add(1, SeqCst) % 40 {
                39 => "500 Internal Server Error",
                _ => "204 No Content",
            };
            now.fetch_sub(1, SeqCst);
            write_answer(stream, head, "")
        });
        let webhook = one.webhook(&quick.address(), &["custom.*"]).await;
        one.act(&webhook, "/pause", json!({})).await;
        for number in 0..150 {
            one.event("custom.order.paid.v1", json!({ "number": number }))
                .await;
        }
        one.until_deliveries(&webhook, "pending", 150).await;
        one.act(&webhook, "/resume", json!({})).await;
        let delivered = one.until_deliveries(&webhook, "delivered", 150).await;
        let most = most.load(SeqCst);
        assert!((2..=5).contains(&most), "{most} at once");
        let asked = quick.asked();
        assert!(asked.len() > 150, "some were refused");
        for delivery in &delivered {
            let id = delivery["message_id"].as_str();
            let sent = asked.iter().filter(|it| it.header("webhook-id") == id);
            assert_eq!(delivery["attempt_count"], sent.count(), "{delivery}");
        }
        drop(daemons);
    }
}

#[tokio::test]
async fn an_endpoint_that_fails_is_held_and_probed_by_one_attempt_at_a_time() {
    let daemon = webhooks("sqlite:dotmac.db")
        .env("DOTMAC_WEBHOOKS_BREAKER_FAILURES", 3)
        .env("DOTMAC_WEBHOOKS_BREAKER_HOLD", "300ms")
        .env(
            "DOTMAC_WEBHOOKS_RETRIES",
            "100ms,100ms,100ms,100ms,100ms,100ms,100ms,100ms",
        )
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    let is_well = Arc::new(AtomicBool::new(false));
    let well = Arc::clone(&is_well);
    let failing = FakeHttpServer::start(move |_, stream| match well.load(SeqCst) {
        true => write_answer(stream, "204 No Content", ""),
        false => write_answer(stream, "503 Service Unavailable", ""),
    });
    let webhook = one.webhook(&failing.address(), &["custom.*"]).await;
    for number in 0..6 {
        one.event("custom.order.paid.v1", json!({ "number": number }))
            .await;
    }
    let held = eventually("the endpoint to be held", || async {
        let (_, stats) = one.get(&format!("{}/stats", path_of(&webhook))).await;
        let is_held = stats["held_until"].is_string() && stats["concurrency"] == 0;
        is_held.then_some(stats)
    })
    .await;
    assert!(held["failures"].as_u64() >= Some(3), "{held}");
    assert!(held["failing_since"].is_string());
    // Attempts under way at the begin of the hold have ended; then there is one at a time, after growing delays.
    let before = failing.asked().len();
    let asked = until_asked(&failing, before + 3).await;
    let [.., one_before, last] = asked.as_slice() else {
        panic!("there were {} requests", asked.len());
    };
    assert!(last.at - one_before.at >= Duration::from_millis(280));
    is_well.store(true, SeqCst);
    one.until_deliveries(&webhook, "delivered", 6).await;
    let (_, stats) = one.get(&format!("{}/stats", path_of(&webhook))).await;
    assert_eq!(
        (&stats["failures"], &stats["failing_since"]),
        (&json!(0), &json!(null))
    );
}

#[tokio::test]
async fn what_waits_for_an_endpoint_is_bounded_and_can_be_recovered() {
    let daemon = webhooks("sqlite:dotmac.db")
        .env("DOTMAC_WEBHOOKS_MAX_WAITING", 2)
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let (mine, one) = (receiver("204 No Content"), client(&daemon, ONE));
    let webhook = one.webhook(&mine.address(), &["custom.*"]).await;
    one.act(&webhook, "/pause", json!({})).await;
    for number in 0..2 {
        one.event("custom.order.paid.v1", json!({ "number": number }))
            .await;
    }
    // The bound is measured every now and then.
    let failed = eventually("a delivery to fail", || async {
        one.event("custom.order.paid.v1", json!({})).await;
        let failed = one.deliveries(&webhook, "&state=failed").await;
        (!failed.is_empty()).then_some(failed)
    })
    .await;
    let error = failed[0]["last_error"].as_str().unwrap();
    assert!(error.starts_with("too_many_waiting"), "{error}");
    one.act(&webhook, "/resume", json!({})).await;
    let since = json!({ "since": "2026-01-01T00:00:00Z" });
    let (status, _) = one.act(&webhook, "/recover", since.clone()).await;
    assert_eq!(status, 200);
    eventually("all to be delivered", || async {
        let all = one.deliveries(&webhook, "").await;
        let is_done = all.iter().all(|it| it["state"] == "delivered");
        if !is_done {
            one.act(&webhook, "/recover", since.clone()).await;
        }
        is_done.then_some(())
    })
    .await;
    until_asked(&mine, 3).await;
}
