//! Events are passed on to a broker: all of them, in their order, under faults of the broker and of instances.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use dotmac_db::{ModuleDb, Target, Tx};
use dotmac_durable::events::{
    Broker, HandlerError, NotDurable, RewindTo, StoredEvent, relay, rewind,
};
use dotmac_supervision::WorkerSpec;

use crate::{
    rig::{Rig, on_both},
    support::eventually,
};

const NAME: &str = "test_relay";

/// A broker that keeps each id once, as it came first, and can be away.
#[derive(Clone, Default)]
struct Kept {
    events: Arc<Mutex<Vec<(String, i64)>>>,
    /// With those that it had already.
    taken: Arc<Mutex<usize>>,
    is_away: Arc<AtomicBool>,
    is_volatile: Arc<AtomicBool>,
}

impl Broker for Kept {
    async fn check(&mut self) -> Result<NotDurable, HandlerError> {
        Ok(self
            .is_volatile
            .load(SeqCst)
            .then(|| "it keeps them in memory".to_owned()))
    }

    async fn publish(&mut self, events: Vec<StoredEvent>) -> Result<(), HandlerError> {
        for (index, event) in events.into_iter().enumerate() {
            // In the middle of a batch: what comes before is there.
            if self.is_away.load(SeqCst) && index > 0 {
                return Err("it is away".into());
            }
            let (number, id) = (
                event.json()["number"].as_i64().unwrap(),
                event.id.to_string(),
            );
            *self.taken.lock().unwrap() += 1;
            let mut kept = self.events.lock().unwrap();
            if kept.iter().all(|(known, _)| *known != id) {
                kept.push((id, number));
            }
        }
        match self.is_away.load(SeqCst) {
            true => Err("it is away".into()),
            false => Ok(()),
        }
    }
}

/// The table of leases is one of programs; this is a crate alone.
async fn with_leases(target: &Target) {
    let rig = Rig::start(target, |_| Vec::new()).await;
    rig.run(match target {
        Target::Postgres(_) => {
            include_str!("../../../../migrations/postgres/2026-11-28-000001_lease/up.sql")
        }
        Target::Sqlite(_) => {
            include_str!("../../../../migrations/sqlite/2026-11-28-000001_lease/up.sql")
        }
    })
    .await;
    rig.supervisor.halt().await;
}

impl Kept {
    fn workers(&self, instance: &'static str) -> impl FnOnce(&ModuleDb) -> Vec<WorkerSpec> {
        let broker = self.clone();
        move |db| vec![relay(NAME, db, instance, broker)]
    }

    fn numbers(&self) -> Vec<i64> {
        let kept = self.events.lock().unwrap();
        kept.iter().map(|(_, number)| *number).collect()
    }

    async fn until(&self, numbers: std::ops::Range<i64>) {
        eventually("the events", || async {
            (self.numbers() == Vec::from_iter(numbers.clone())).then_some(())
        })
        .await;
    }
}

#[actix::test]
async fn a_broker_gets_all_events_in_order_though_it_was_away_and_its_instance_stopped() {
    on_both(async |target| {
        with_leases(&target).await;
        let broker = Kept::default();
        let one = Rig::start(&target, broker.workers("one")).await;
        one.emit(0..10).await;
        broker.until(0..10).await;
        broker.is_away.store(true, SeqCst);
        one.emit(10..20).await;
        one.until_reason(NAME, "broker_unreachable").await;
        let other = Rig::start(&target, broker.workers("other")).await;
        one.supervisor.halt().await;
        broker.is_away.store(false, SeqCst);
        other.emit(20..30).await;
        broker.until(0..30).await;
        other.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn a_relay_is_rewound_and_says_what_its_broker_may_lose() {
    on_both(async |target| {
        with_leases(&target).await;
        let broker = Kept::default();
        broker.is_volatile.store(true, SeqCst);
        let rig = Rig::start(&target, broker.workers("one")).await;
        rig.emit(0..5).await;
        broker.until(0..5).await;
        rig.until_reason(NAME, "broker_not_durable").await;
        let back = async move |tx: &mut Tx| rewind(tx, NAME, RewindTo::Beginning).await;
        rig.system().transaction("rewind", back).await.unwrap();
        eventually("the events again", || async {
            (*broker.taken.lock().unwrap() >= 10).then_some(())
        })
        .await;
        assert_eq!(broker.numbers(), Vec::from_iter(0..5));
        rig.supervisor.halt().await;
    })
    .await;
}
