//! Calls of URLs: signed, and in lanes, so that a receiver which hangs or fails delays no other.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use futures_util::future::join_all;

use super::*;
use crate::events::instances;

/// A program that calls URLs.
fn calling(url: &str) -> Builder {
    tenants(url).env(
        "DOTMAC_NOTIFICATIONS_WEBHOOK_KEY",
        format!("whsk_{MASTER_KEY}"),
    )
}

/// A message to a URL.
fn call_of(url: &str) -> Value {
    json!({
        "to": [{ "url": url }],
        "content": { "title": "Hello", "text": "Good day" },
        "category": "news",
    })
}

/// A receiver that does not answer until it is released, and the most calls that it had at once.
struct Hanging {
    server: FakeHttpServer,
    is_free: Arc<AtomicBool>,
    most: Arc<AtomicUsize>,
}

impl Hanging {
    fn start() -> Self {
        let (is_free, now, most) = (
            Arc::<AtomicBool>::default(),
            AtomicUsize::new(0),
            Arc::<AtomicUsize>::default(),
        );
        let (free, highest) = (Arc::clone(&is_free), Arc::clone(&most));
        let server = FakeHttpServer::start(move |_, stream| {
            highest.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
            // A call that its client has given up is under way no more.
            stream.set_read_timeout(Some(Duration::from_millis(5)))?;
            let is_given_up = |stream: &std::net::TcpStream| matches!(stream.peek(&mut [0]), Ok(0));
            while !free.load(SeqCst) && !is_given_up(stream) {}
            now.fetch_sub(1, SeqCst);
            stream.set_read_timeout(None)?;
            write_answer(stream, "204 No Content", "")
        });
        Self {
            server,
            is_free,
            most,
        }
    }

    async fn until_called(&self, count: usize) {
        eventually(&format!("{count} calls"), || async {
            (self.server.asked().len() >= count).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_receiver_that_hangs_delays_no_other_on_both_back_ends() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let daemons = instances(|| calling(&url), &url).await;
        let one = client(&daemons[0], ONE);
        let hangs = Hanging::start();
        // More than may be under way at once, many times over.
        let mut waiting = Vec::new();
        for daemon in &daemons {
            let client = client(daemon, ONE);
            let sending = (0..24).map(|_| client.send(call_of(&hangs.server.address())));
            waiting.extend(join_all(sending).await.iter().map(delivery));
        }
        hangs.until_called(5).await;
        let (well, begun) = (next_hop("204 No Content"), std::time::Instant::now());
        let mut paths = Vec::new();
        for _ in 0..20 {
            paths.push(delivery(&one.send(call_of(&well.address())).await));
        }
        for path in &paths {
            one.until_delivery(path, "accepted").await;
        }
        let took = begun.elapsed();
        println!("20 calls beside a receiver that hangs took {took:?}");
        assert_eq!(well.asked().len(), 20, "each was called once");
        assert!(hangs.most.load(SeqCst) <= 5, "on all instances together");
        let busy = eventually("a delivery to say why it waits", || async {
            let found = one.delivery_state(waiting.last().unwrap()).await;
            (found["reason"] == "receiver_busy").then_some(found)
        })
        .await;
        assert_eq!(
            (
                &busy["state"],
                &busy["attempts"],
                busy["next_attempt_at"].is_string()
            ),
            (&json!("queued"), &json!(0), true),
            "{busy}"
        );
        hangs.is_free.store(true, SeqCst);
        for path in &waiting {
            one.until_delivery(path, "accepted").await;
        }
        assert!(hangs.most.load(SeqCst) <= 5);
        let ids: std::collections::BTreeSet<_> = hangs
            .server
            .asked()
            .iter()
            .map(|it| it.header("webhook-id").unwrap().to_owned())
            .collect();
        assert_eq!(ids.len(), waiting.len());
        drop(daemons);
    }
}

#[tokio::test]
async fn many_urls_of_one_server_that_hangs_leave_room_for_others() {
    let daemon = calling("sqlite:dotmac.db").spawn().await;
    daemon.until("/ready", 200).await;
    let (one, hangs) = (client(&daemon, ONE), Hanging::start());
    let to: Vec<_> = (0..100)
        .map(|number| json!({ "url": format!("{}/{number}", hangs.server.address()) }))
        .collect();
    let mut call = call_of("https://example.com/");
    call["to"] = to.into();
    one.send(call).await;
    hangs.until_called(8).await;
    let well = next_hop("204 No Content");
    let path = delivery(&one.send(call_of(&well.address())).await);
    one.until_delivery(&path, "accepted").await;
    assert_eq!(hangs.most.load(SeqCst), 8);
    hangs.is_free.store(true, SeqCst);
}

#[tokio::test]
async fn a_receiver_that_fails_is_left_alone_and_says_for_how_long() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let daemons = instances(|| calling(&url), &url).await;
        let one = client(&daemons[0], ONE);
        let fails = next_hop("503 Service Unavailable");
        let mut paths = Vec::new();
        for _ in 0..25 {
            paths.push(delivery(&one.send(call_of(&fails.address())).await));
        }
        let held = eventually("a delivery to be held back", || async {
            for path in &paths {
                let found = one.delivery_state(path).await;
                if found["reason"] == "receiver_held" {
                    return Some(found);
                }
            }
            None
        })
        .await;
        assert_eq!(
            (&held["state"], &held["attempts"]),
            (&json!("queued"), &json!(0))
        );
        let called = fails.asked().len();
        assert!((10..=14).contains(&called), "{called} calls");

        // One that asks for it is not called by others meanwhile.
        let asks = FakeHttpServer::start(|_, stream| {
            write_answer(stream, "429 Too Many Requests\r\nretry-after: 120", "")
        });
        let path = delivery(&one.send(call_of(&asks.address())).await);
        one.until_retrying(&path, 1).await;
        let last = client(daemons.last().unwrap(), ONE);
        let path = delivery(&last.send(call_of(&asks.address())).await);
        let found = eventually("a delivery to be held back", || async {
            let found = last.delivery_state(&path).await;
            (found["reason"] == "receiver_held").then_some(found)
        })
        .await;
        let next = found["next_attempt_at"].as_str().unwrap();
        let next = chrono::DateTime::parse_from_rfc3339(next).unwrap();
        let wait = (next.to_utc() - chrono::Utc::now()).num_seconds();
        assert!((60..=130).contains(&wait), "{found}");
        assert_eq!(asks.asked().len(), 1);
        drop(daemons);
    }
}

#[tokio::test]
async fn what_a_killed_process_was_calling_the_next_one_calls() {
    let daemon = calling("sqlite:dotmac.db").spawn().await;
    daemon.until("/ready", 200).await;
    let hangs = Hanging::start();
    let mut paths = Vec::new();
    for _ in 0..8 {
        let sent = client(&daemon, ONE)
            .send(call_of(&hangs.server.address()))
            .await;
        paths.push(delivery(&sent));
    }
    hangs.until_called(5).await;
    let directory = daemon.kill();
    hangs.is_free.store(true, SeqCst);
    let daemon = calling("sqlite:dotmac.db").spawn_in(directory).await;
    daemon.until("/ready", 200).await;
    for path in &paths {
        client(&daemon, ONE).until_delivery(path, "accepted").await;
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
