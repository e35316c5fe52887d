//! Processes that are killed while they send, counted at the far end: what the relay took and what a receiver of webhooks got,
//! against what the deliveries say.

use std::collections::BTreeMap;

use super::*;
use crate::support::{
    fakes::{FakeHttpServer, write_answer},
    smtp::TakenMail,
};

/// Processes that are killed on each back end, unless `DOTMAC_FAULT_ROUNDS` says otherwise.
const ROUNDS: u64 = 6;

fn rounds() -> u64 {
    let given = std::env::var("DOTMAC_FAULT_ROUNDS").ok();
    given.map_or(ROUNDS, |it| it.parse().unwrap())
}

fn sending(url: &str, port: u16) -> Builder {
    mailing(url, port)
        .env(
            "DOTMAC_APP_MASTER_KEY",
            "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=",
        )
        .env("DOTMAC_WEBHOOKS_RETRIES", "100ms,200ms,300ms,1s,1s,1s")
}

/// What was acknowledged.
#[derive(Default)]
struct Acknowledged {
    /// Ids of deliveries by mail.
    mails: Vec<String>,
    /// Ids of events.
    events: Vec<String>,
}

/// Sends mails and events until the process is gone.
fn write(daemon: &Daemon, round: u64) -> tokio::task::JoinHandle<Acknowledged> {
    let (client, base) = (daemon.client.clone(), daemon.base.clone());
    tokio::spawn(async move {
        let mut kept = Acknowledged::default();
        for number in 0.. {
            let address = format!("a{round}.{number}@example.com");
            let event =
                json!({ "type": "custom.order.paid.v1", "subject": "orders/7", "data": {} });
            for (path, body) in [
                (NOTIFICATIONS, mail_to(&address)),
                ("/api/v1/events", event),
            ] {
                let request = client.post(format!("{base}{path}")).bearer_auth(ONE);
                let Ok(answer) = request.json(&body).send().await else {
                    return kept;
                };
                let status = answer.status().as_u16();
                let Ok(made) = answer.json::<Value>().await else {
                    return kept;
                };
                match status {
                    202 => kept
                        .mails
                        .push(made["deliveries"][0]["id"].as_str().unwrap().to_owned()),
                    201 => kept.events.push(made["id"].as_str().unwrap().to_owned()),
                    _ => {}
                }
            }
        }
        kept
    })
}

/// All deliveries by mail: id and state.
async fn deliveries(one: &Client<'_>) -> BTreeMap<String, String> {
    let (mut found, mut cursor) = (BTreeMap::new(), String::new());
    loop {
        let path = format!("{DELIVERIES}?channel=email&limit=200{cursor}");
        let page = one.get(&path).await.1;
        for it in page["items"].as_array().unwrap() {
            let text = |name: &str| it[name].as_str().unwrap().to_owned();
            found.insert(text("id"), text("state"));
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

/// How often the relay took the mail of each delivery.
fn counted(taken: &[TakenMail]) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for mail in taken {
        let id = mail.header("message-id").unwrap();
        let id = id.trim_matches(['<', '>']).split('@').next().unwrap();
        *counted.entry(id.to_owned()).or_default() += 1;
    }
    counted
}

async fn campaign(url: &str) {
    let relay = Smtp::start().await;
    let receiver = FakeHttpServer::start(|_, stream| write_answer(stream, "204 No Content", ""));
    let mut kept = Acknowledged::default();
    let mut daemon = sending(url, relay.port).spawn().await;
    daemon.until("/ready", 200).await;
    let hook = json!({ "url": receiver.address(), "events": ["custom.*"] });
    let made = client(&daemon, ONE).post("/api/v1/webhooks", hook).await;
    assert_eq!(made.0, 201, "{made:?}");
    for round in 0..rounds() {
        daemon.until("/ready", 200).await;
        let writer = write(&daemon, round);
        let wait = Duration::from_millis(fastrand::u64(20..700));
        tokio::time::sleep(wait).await;
        let directory = daemon.kill();
        let written = writer.await.unwrap();
        kept.mails.extend(written.mails);
        kept.events.extend(written.events);
        daemon = sending(url, relay.port).spawn_in(directory).await;
    }
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    let mut left = usize::MAX;
    while left > 0 {
        // As long as it goes on.
        left = eventually("fewer mails to wait", || async {
            let waiting = one
                .get(&format!("{DELIVERIES}?state=queued&limit=200"))
                .await
                .1;
            let now = waiting["items"].as_array()?.len();
            (now < left).then_some(now)
        })
        .await;
    }
    let states = deliveries(&one).await;
    let taken = counted(&relay.taken());
    let (mut accepted, mut unknown, mut unseen) = (0, 0, 0);
    for id in &kept.mails {
        let state = states.get(id).unwrap_or_else(|| panic!("{id} is lost"));
        match (&**state, taken.get(id).copied().unwrap_or_default()) {
            ("accepted", 1) => accepted += 1,
            // The relay's answer was not written down.
            ("unknown", 0) => unseen += 1,
            ("unknown", 1) => unknown += 1,
            found => panic!("{id}: {found:?}"),
        }
    }
    // Those too whose answer the client did not see.
    for (id, count) in &taken {
        assert!(
            *count == 1 && states.contains_key(id),
            "{id} was sent {count} times"
        );
    }
    assert!(accepted > 0, "{states:?}");

    eventually("every event to arrive", || async {
        let asked = receiver.asked();
        let arrived: std::collections::BTreeSet<_> = asked
            .iter()
            .filter_map(|it| it.header("webhook-id"))
            .collect();
        kept.events
            .iter()
            .all(|it| arrived.contains(&**it))
            .then_some(())
    })
    .await;
    println!(
        "{} processes killed: {accepted} mails accepted and taken once, {unknown} unknown that were taken, {unseen} unknown that \
         were not; {} events, {} calls of their receiver",
        rounds(),
        kept.events.len(),
        receiver.asked().len()
    );
}

#[tokio::test]
async fn no_message_is_lost_or_doubled_when_processes_are_killed_on_sqlite() {
    campaign("sqlite:dotmac.db").await;
}

#[tokio::test]
async fn no_message_is_lost_or_doubled_when_processes_are_killed_on_postgresql() {
    let postgres = Postgres::start().await;
    campaign(&postgres.url()).await;
}
