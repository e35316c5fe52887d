//! Processes that emit and consume are killed again and again, at any statement: rows, events and effects agree.

use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError, ModuleDb, TenantTx, on};
use dotmac_durable::events::{
    Emit, Event, Filter, Position, Received, Subscriber, read_all, subscribers,
};
use dotmac_supervision::WorkerSpec;
use serde::{Deserialize, Serialize};

use crate::{
    rig::{Counted, Rig, effect, have_effect, scope},
    support::Postgres,
    victim::{self, kill_again_and_again, target},
};

/// What follows a [`Counted`], in the transaction of its effect.
#[derive(Serialize, Deserialize)]
struct Echoed {
    number: i64,
}

impl Event for Echoed {
    const TYPE: &'static str = "test.echoed.v1";

    fn subject(&self) -> String {
        format!("numbers/{}", self.number)
    }
}

fn workers(db: &ModuleDb) -> Vec<WorkerSpec> {
    let echo = async |tx: &mut TenantTx, event: Received<Counted>| {
        have_effect(tx, "echo", event.number, event.event.position()).await?;
        let number = event.number;
        tx.emit(&Echoed { number })?;
        Ok::<_, DbError>(())
    };
    let count = async |tx: &mut TenantTx, event: Received<Echoed>| {
        have_effect(tx, "count", event.number, event.event.position()).await
    };
    vec![
        Subscriber::new("echo", echo).worker(db),
        Subscriber::new("count", count).worker(db),
    ]
}

/// Not its own test: the process that is killed.
#[actix::test]
async fn victim() {
    let Some((first, target)) = victim::role() else {
        return;
    };
    let rig = Rig::start(&target, workers).await;
    for number in first.. {
        let work = async move |tx: &mut TenantTx| {
            have_effect(tx, "writer", number, Position::BEGINNING).await?;
            tx.emit(&Counted::new(number))?;
            Ok::<_, DbError>(())
        };
        let db = rig.db.tenant(&scope());
        // A busy machine may refuse one: it is not acknowledged, and the next one is written.
        match db.transaction("write", work).await {
            Ok(()) => println!("acknowledged {number}"),
            Err(error) => println!("not written: {error}"),
        }
    }
}

async fn killed(database: &str) {
    let (rounds, kept) = kill_again_and_again(database, 6, async |_| {}, |_, _| {}).await;
    let rig = Rig::start(&target(database), workers).await;
    let began = Instant::now();
    loop {
        let read = async |c: &mut Connection| subscribers(c).await;
        let all = rig.system().read("status", read).await.unwrap();
        // The first may have emitted more for the second since it was read.
        if all.len() == 2 && all.iter().all(|it| it.lag_events == 0) && is_still(&rig).await {
            assert!(all.iter().all(|it| it.held == 0), "{all:?}");
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(120), "{all:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let rows = numbers(&rig, "writer").await;
    let lost = kept
        .iter()
        .filter(|number| rows.binary_search(number).is_err());
    assert_eq!(lost.count(), 0, "acknowledged rows are lost");
    for (what, found) in [
        ("events of rows", events(&rig, Counted::TYPE).await),
        ("effects of those events", numbers(&rig, "echo").await),
        ("events of those effects", events(&rig, Echoed::TYPE).await),
        ("effects of the latter", numbers(&rig, "count").await),
    ] {
        assert!(
            found == rows,
            "{what}: {} for {} rows",
            found.len(),
            rows.len()
        );
    }
    println!(
        "{rounds} processes killed, {} rows with all that follows them once",
        rows.len()
    );
    rig.supervisor.halt().await;
}

async fn is_still(rig: &Rig) -> bool {
    let echoed = events(rig, Echoed::TYPE).await.len();
    echoed == numbers(rig, "writer").await.len() && echoed == numbers(rig, "count").await.len()
}

/// The numbers of effects, doubled ones included, sorted.
async fn numbers(rig: &Rig, subscriber: &'static str) -> Vec<i64> {
    let read = async move |c: &mut Connection| {
        let query = effect::table
            .filter(effect::subscriber.eq(subscriber))
            .order(effect::number)
            .select(effect::number);
        on!(c, |c| query.load(c).await)
    };
    rig.system().read("read effects", read).await.unwrap()
}

/// The numbers of all events of a type, sorted.
async fn events(rig: &Rig, kind: &'static str) -> Vec<i64> {
    let (mut after, mut numbers) = (Position::BEGINNING, Vec::new());
    loop {
        let read =
            async move |c: &mut Connection| read_all(c, &Filter::kinds(&[kind]), after, 1000).await;
        let page = rig.system().read("read events", read).await.unwrap();
        after = page.next;
        let found = page.events.iter();
        numbers.extend(found.map(|it| it.json()["number"].as_i64().unwrap()));
        if page.events.is_empty() {
            numbers.sort_unstable();
            return numbers;
        }
    }
}

#[actix::test]
async fn nothing_is_lost_or_done_twice_when_processes_are_killed_on_postgresql() {
    let server = Postgres::start().await;
    killed(&server.port.to_string()).await;
}

#[actix::test]
async fn nothing_is_lost_or_done_twice_when_processes_are_killed_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    killed(directory.path().to_str().unwrap()).await;
}
