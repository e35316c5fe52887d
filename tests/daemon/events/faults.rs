//! Events under kills and pauses.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Client, EVENTS, add, tags};
use crate::{
    notes::{NOTES, TOKEN, notes},
    support::{Daemon, Postgres, eventually},
};

/// A client that adds notes until the daemon is gone; the ids that were acknowledged.
pub async fn write(daemon: &Daemon) -> tokio::task::JoinHandle<Vec<String>> {
    let (client, url) = (daemon.client.clone(), format!("{}{NOTES}", daemon.base));
    tokio::spawn(async move {
        let mut acknowledged = Vec::new();
        loop {
            let request = client.post(&url).bearer_auth(TOKEN);
            let request = request.json(&json!({ "text": "Buy milk", "tags": ["home"] }));
            match request.send().await {
                Ok(answer) if answer.status() == 201 => {
                    let note: Value = answer.json().await.unwrap_or_default();
                    acknowledged.extend(note["id"].as_str().map(str::to_owned));
                }
                // The database is away, or the client too fast.
                Ok(answer) if answer.status().is_server_error() || answer.status() == 429 => {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
                Ok(answer) => panic!("{answer:?}"),
                Err(_) => return acknowledged,
            }
        }
    })
}

#[tokio::test]
async fn what_was_acknowledged_has_one_event_and_one_effect_when_instance_and_postgresql_are_killed()
 {
    let mut postgres = Postgres::start().await;
    let url = postgres.url();
    let notes = || notes().env("DOTMAC_DATABASE_URL", &url);
    let (victim, survivor) = (notes().spawn().await, notes().spawn().await);
    victim.until("/ready", 200).await;
    survivor.until("/ready", 200).await;
    let client = Client {
        daemon: &survivor,
        token: TOKEN,
    };
    let writers = [
        write(&victim).await,
        write(&survivor).await,
        write(&survivor).await,
    ];
    let some = |count: usize| async move {
        eventually("some events", || async {
            (client.events("").await.len() >= count).then_some(())
        })
        .await;
    };
    some(20).await;
    victim.kill();
    some(40).await;
    postgres.kill().await;
    postgres.restart().await;
    survivor.until("/ready", 200).await;
    eventually("writing to go on", || async {
        (add(client, "after the restart", &["home"]).await.0 == 201).then_some(())
    })
    .await;
    let [first, ..] = &writers;
    eventually("the first writer to end", || async {
        first.is_finished().then_some(())
    })
    .await;
    let directory = survivor.kill();
    let mut acknowledged = BTreeSet::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }

    let daemon = notes().spawn_in(directory).await;
    daemon.until("/ready", 200).await;
    let client = Client {
        daemon: &daemon,
        token: TOKEN,
    };
    let stored: i64 = postgres
        .query("SELECT count(*) FROM note")
        .await
        .parse()
        .unwrap();
    let events = client
        .until("&type=note.added.v1", usize::try_from(stored).unwrap())
        .await;
    let noted: Vec<_> = events
        .iter()
        .map(|it| it["data"]["note"].as_str().unwrap().to_owned())
        .collect();
    let once: BTreeSet<_> = noted.iter().cloned().collect();
    assert_eq!(once.len(), noted.len(), "an event is there twice");
    let lost: Vec<_> = acknowledged.difference(&once).collect();
    assert!(lost.is_empty(), "{lost:?} have no event");
    eventually("each event to be counted once", || async {
        (tags(client).await == json!([{ "tag": "home", "notes": stored }])).then_some(())
    })
    .await;
}

#[tokio::test]
async fn why_names_the_transaction_that_holds_a_subscriber_back() {
    let postgres = Postgres::start().await;
    let daemon = notes()
        .env("DOTMAC_DATABASE_URL", postgres.url())
        .env("DOTMAC_ADMIN_SOCKET", "admin.sock")
        .env("DOTMAC_EVENTS_STATUS_INTERVAL", "100ms")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let client = Client {
        daemon: &daemon,
        token: TOKEN,
    };
    assert_eq!(add(client, "before", &[]).await.0, 201);
    client.until("", 1).await;

    let (session, connection) = tokio_postgres::connect(&postgres.url(), tokio_postgres::NoTls)
        .await
        .unwrap();
    let driver = tokio::spawn(connection);
    session
        .batch_execute("BEGIN; SELECT pg_current_xact_id()")
        .await
        .unwrap();
    assert_eq!(add(client, "held back", &[]).await.0, 201);
    let reported = eventually("why to name the transaction", || async {
        let ask = notes().env("DOTMAC_ADMIN_SOCKET", "admin.sock");
        let why = ask.run_in(daemon.directory(), &["why"]).await;
        assert_eq!(why.code, 0, "it is ready: {}", why.text());
        let is_named = why.text().contains("behind; held back");
        is_named.then(|| why.text())
    })
    .await;
    for part in [
        "module `events`: subscriber `notes.tags`: ",
        " s and 1 event behind; held back by transaction ",
        " of pid ",
    ] {
        assert!(reported.contains(part), "{reported}");
    }
    let (_, shown) = client.get(&format!("{EVENTS}/subscribers")).await;
    let shown = &shown["items"][0];
    assert_eq!(shown["state"], "held_back", "{shown}");
    let cause = shown["cause"].as_str().unwrap();
    assert!(cause.starts_with("held back by transaction "), "{shown}");
    assert_eq!(client.events("").await.len(), 1, "nothing is passed over");

    session.batch_execute("ROLLBACK").await.unwrap();
    client.until("", 2).await;
    driver.abort();
}
