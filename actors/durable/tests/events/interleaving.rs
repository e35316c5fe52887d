//! Many writers whose transactions overlap in every way, and several readers: nothing is skipped, nothing doubled, and
//! all see one order.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use dotmac_db::{Connection, DbError, ModuleDb, Target, TenantTx, Tx};
use dotmac_durable::events::{Emit, Filter, Position, Received, Subscriber, read_all};
use dotmac_supervision::WorkerSpec;
use tokio::task::JoinHandle;

use crate::rig::{Counted, Rig, have_effect, postgres, scope, sqlite};

const WRITERS: i64 = 12;
/// Between the numbers that two transactions begin with.
const EACH: i64 = 4;

/// Two subscribers, which each instance has.
fn subscribers(db: &ModuleDb) -> Vec<WorkerSpec> {
    let subscriber = |name: &'static str| {
        let count = async move |tx: &mut TenantTx, event: Received<Counted>| {
            have_effect(tx, name, event.number, event.event.position()).await
        };
        Subscriber::new(name, count).worker(db)
    };
    vec![subscriber("one"), subscriber("two")]
}

/// One transaction: it may write early, pause between any two steps, and roll back. What it has emitted if it was
/// committed.
async fn write(db: &ModuleDb, number: i64) -> Vec<i64> {
    let (early, fails) = (fastrand::bool(), fastrand::u8(..10) == 0);
    let events = fastrand::i64(1..EACH);
    let work = async move |tx: &mut TenantTx| {
        if early {
            have_effect(tx, "writer", number, Position::BEGINNING).await?;
        }
        pause().await;
        for n in 0..events {
            tx.emit(&Counted::new(number + n))?;
        }
        // After the events are written, and before the commit.
        tx.before_commit("pause", async |_: &mut Tx| {
            pause().await;
            Ok(())
        });
        if fails {
            return Err(DbError::from(diesel::result::Error::RollbackTransaction));
        }
        Ok(())
    };
    match db.tenant(&scope()).transaction("write", work).await {
        Ok(()) => (number..number + events).collect(),
        // A loaded machine may take the database for one that is away; then nothing is left either.
        Err(error) => {
            assert!(fails || error.retry_after().is_some(), "{error:?}");
            Vec::new()
        }
    }
}

async fn pause() {
    if fastrand::u8(..4) == 0 {
        let pause = Duration::from_micros(fastrand::u64(..4000));
        tokio::time::sleep(pause).await;
    }
}

/// Reads the log in parallel with the subscribers, until it has come to an end after `is_over`.
fn reader(db: &ModuleDb, is_over: &Arc<AtomicBool>) -> JoinHandle<Vec<(i64, Position)>> {
    let (db, is_over) = (db.system("test"), Arc::clone(is_over));
    tokio::spawn(async move {
        let (mut after, mut seen) = (Position::BEGINNING, Vec::new());
        loop {
            let was_over = is_over.load(Relaxed);
            let read =
                async move |c: &mut Connection| read_all(c, &Filter::default(), after, 200).await;
            let page = match db.read("read events", read).await {
                Ok(page) => page,
                Err(error) => {
                    assert!(error.retry_after().is_some(), "{error:?}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            after = page.next;
            let is_end = page.events.is_empty() && !page.is_held_back;
            seen.extend(page.events.iter().map(|event| {
                let number = event.data::<Counted>().unwrap().number;
                (number, event.position())
            }));
            if is_end {
                if was_over {
                    return seen;
                }
                tokio::time::sleep(Duration::from_millis(fastrand::u64(1..20))).await;
            }
        }
    })
}

async fn interleaved(target: &Target, transactions: i64) {
    let one = Rig::start(target, subscribers).await;
    let other = Rig::start(target, subscribers).await;
    let is_over = Arc::<AtomicBool>::default();
    let readers = [reader(&one.db, &is_over), reader(&other.db, &is_over)];
    let began = Instant::now();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let db = [&one, &other][usize::from(writer % 2 == 0)].db.clone();
            tokio::spawn(async move {
                let mut committed = Vec::new();
                for n in (writer..transactions).step_by(WRITERS as usize) {
                    committed.extend(write(&db, n * EACH).await);
                }
                committed
            })
        })
        .collect();
    let mut committed = BTreeSet::new();
    for writer in writers {
        committed.extend(writer.await.unwrap());
    }
    let took = began.elapsed();
    is_over.store(true, Relaxed);
    let mut seen = Vec::new();
    for reader in readers {
        seen.push(reader.await.unwrap());
    }
    assert!(seen[0] == seen[1], "two readers saw two orders");
    assert!(
        seen[0].is_sorted_by(|(_, a), (_, b)| a < b),
        "the order goes back"
    );
    let numbers: Vec<_> = seen[0].iter().map(|(number, _)| *number).collect();
    let set: BTreeSet<_> = numbers.iter().copied().collect();
    let (skipped, made_up) = (committed.difference(&set), set.difference(&committed));
    assert_eq!(
        (skipped.count(), made_up.count()),
        (0, 0),
        "skipped, made up"
    );
    assert_eq!(set.len(), numbers.len(), "doubled");

    let expected: Vec<_> = seen[0]
        .iter()
        .map(|(number, place)| (*number, place.to_string()))
        .collect();
    let deadline = Instant::now() + Duration::from_secs(120) + 2 * took;
    for subscriber in ["one", "two"] {
        loop {
            let effects = one.effects(subscriber).await;
            assert!(effects.len() <= expected.len(), "doubled effects");
            if effects.len() == expected.len() {
                assert!(effects == expected, "effects differ from events");
                break;
            }
            assert!(
                Instant::now() < deadline,
                "{} of {}",
                effects.len(),
                expected.len()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    println!(
        "{transactions} transactions, {} events in {took:?}, all effects after {:?}: none skipped, none doubled",
        numbers.len(),
        began.elapsed()
    );
    one.supervisor.halt().await;
    other.supervisor.halt().await;
}

/// `DOTMAC_FAULT_EVENTS` says how many; `make faults` has a million of them.
fn transactions(usual: i64) -> i64 {
    #[expect(clippy::disallowed_methods, reason = "a test has no settings")]
    let given = std::env::var("DOTMAC_FAULT_EVENTS");
    given.map_or(usual, |given| given.parse().unwrap())
}

#[actix::test]
async fn interleaved_transactions_are_read_once_and_in_one_order_on_postgresql() {
    let server = crate::support::Postgres::start().await;
    interleaved(&postgres(server.port), transactions(20_000)).await;
}

#[actix::test]
async fn interleaved_transactions_are_read_once_and_in_one_order_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    interleaved(&sqlite(directory.path()), transactions(500).min(20_000)).await;
}
