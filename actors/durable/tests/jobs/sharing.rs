//! Who runs when: tenants, priorities, slots, bounds over all instances.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use dotmac_db::ModuleDb;
use dotmac_durable::jobs::{EnqueueOptions, Job, JobError, JobHandler, Rate, Rules, Run, Runner};
use serde::{Deserialize, Serialize};

use crate::rig::{Rig, on_both, tenant};

/// A kind of which one job runs at a time.
#[derive(Clone, Serialize, Deserialize)]
pub struct Single {
    pub tenant: u128,
    pub number: i64,
}

impl Job for Single {
    const KIND: &'static str = "test.single";
    type Output = ();
    const RULES: Rules = Rules {
        slots: 1,
        ..Rules::DEFAULT
    };
}

pub type Log = Arc<Mutex<Vec<(u128, i64)>>>;

pub fn logging(log: &Log) -> JobHandler {
    let log = Arc::clone(log);
    JobHandler::new(async move |run: Run<Single>| {
        log.lock().unwrap().push((run.tenant, run.number));
        Ok::<_, JobError>(())
    })
}

pub async fn until_logged(log: &Log, count: usize) -> Vec<(u128, i64)> {
    crate::support::eventually("jobs", || async {
        let log = log.lock().unwrap();
        (log.len() >= count).then(|| log.clone())
    })
    .await
}

/// One tenant has a hundred jobs before the others have any: theirs do not wait for all of the hundred.
#[actix::test]
async fn tenants_take_turns() {
    on_both(async |target| {
        let log = Log::default();
        let rig = Rig::start(&target, |_| Vec::new()).await;
        for number in 0..100 {
            let job = Single { tenant: 2, number };
            rig.enqueue_for(&tenant(2), job, EnqueueOptions::new())
                .await;
        }
        for other in [1, 3, 4] {
            for number in 0..3 {
                let job = Single {
                    tenant: other,
                    number,
                };
                rig.enqueue_for(&tenant(other), job, EnqueueOptions::new())
                    .await;
            }
        }
        rig.supervisor.halt().await;
        let rig = Rig::start(&target, |_| vec![logging(&log)]).await;
        let order = until_logged(&log, 109).await;
        let last = order.iter().rposition(|(tenant, _)| *tenant != 2).unwrap();
        assert!(last < 14, "{order:?}");
        for tenant in 1..=4 {
            let of_tenant = order.iter().filter(|it| it.0 == tenant);
            assert!(of_tenant.is_sorted_by_key(|it| it.1), "{order:?}");
        }
        rig.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn jobs_of_a_tenant_run_by_priority_then_by_time() {
    on_both(async |target| {
        let log = Log::default();
        let rig = Rig::start(&target, |_| Vec::new()).await;
        for (number, priority) in [(0, 5), (1, 0), (2, -5), (3, 0), (4, 5)] {
            let options = EnqueueOptions::new().priority(priority);
            rig.enqueue_with(Single { tenant: 1, number }, options)
                .await;
        }
        rig.supervisor.halt().await;
        let rig = Rig::start(&target, |_| vec![logging(&log)]).await;
        let order = until_logged(&log, 5).await;
        let numbers: Vec<_> = order.iter().map(|it| it.1).collect();
        assert_eq!(numbers, [2, 1, 3, 0, 4]);
        rig.supervisor.halt().await;
    })
    .await;
}

/// A kind of which all instances together run two at a time.
#[derive(Clone, Serialize, Deserialize)]
struct Bounded;

impl Job for Bounded {
    const KIND: &'static str = "test.bounded";
    type Output = ();
    const RULES: Rules = Rules {
        total: Some(2),
        slots: 8,
        ..Rules::DEFAULT
    };
}

/// A kind of which ten start a second.
#[derive(Clone, Serialize, Deserialize)]
pub struct Limited;

impl Job for Limited {
    const KIND: &'static str = "test.limited";
    type Output = ();
    const RULES: Rules = Rules {
        rate: Some(Rate {
            jobs: 10,
            per: Duration::from_secs(1),
        }),
        ..Rules::DEFAULT
    };
}

#[derive(Default)]
pub struct Counter {
    now: AtomicI64,
    pub most: AtomicI64,
    pub all: AtomicI64,
}

impl Counter {
    fn enter(&self) {
        let now = self.now.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(now, SeqCst);
    }

    fn leave(&self) {
        self.now.fetch_sub(1, SeqCst);
        self.all.fetch_add(1, SeqCst);
    }
}

pub fn counting<J: Job<Output = ()>>(counter: &Arc<Counter>, takes: Duration) -> JobHandler {
    let counter = Arc::clone(counter);
    JobHandler::new(async move |_: Run<J>| {
        counter.enter();
        tokio::time::sleep(takes).await;
        counter.leave();
        Ok::<_, JobError>(())
    })
}

pub async fn until_count(counter: &Counter, count: i64) {
    crate::support::eventually("jobs", || async {
        (counter.all.load(SeqCst) >= count).then_some(())
    })
    .await;
}

#[actix::test]
async fn all_instances_together_run_no_more_than_the_kind_allows() {
    on_both(async |target| {
        let counter = Arc::<Counter>::default();
        let handlers =
            |_: &ModuleDb| vec![counting::<Bounded>(&counter, Duration::from_millis(50))];
        let one = Rig::start(&target, handlers).await;
        let other = Rig::start(&target, handlers).await;
        for _ in 0..12 {
            one.enqueue(Bounded).await;
        }
        until_count(&counter, 12).await;
        assert!(counter.most.load(SeqCst) <= 2, "{:?}", counter.most);
        one.supervisor.halt().await;
        other.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn jobs_start_no_faster_than_the_rate_of_their_kind_allows() {
    on_both(async |target| {
        let counter = Arc::<Counter>::default();
        let handlers = |_: &ModuleDb| vec![counting::<Limited>(&counter, Duration::ZERO)];
        let rig = Rig::start(&target, |_| Vec::new()).await;
        for _ in 0..22 {
            rig.enqueue(Limited).await;
        }
        let began = Instant::now();
        let one = Rig::start(&target, handlers).await;
        let other = Rig::start(&target, handlers).await;
        until_count(&counter, 22).await;
        // Two at once, and ten a second after that.
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(1900), "{took:?}");
        for rig in [rig, one, other] {
            rig.supervisor.halt().await;
        }
    })
    .await;
}

/// What fills the slots of one queue delays no other, and what an instance does can be seen.
#[actix::test]
async fn each_queue_has_slots_of_its_own() {
    on_both(async |target| {
        let (counter, status) = (
            Arc::<Counter>::default(),
            Arc::<Mutex<Option<_>>>::default(),
        );
        let (kept, given) = (Arc::clone(&status), Arc::clone(&counter));
        let table = "CREATE TABLE IF NOT EXISTS done (number BIGINT NOT NULL, by TEXT NOT NULL)";
        let rig = Rig::start_with(table, &target, move |db| {
            let hold = JobHandler::new(async move |run: Run<Single>| {
                given.enter();
                while run.number == 0 && given.all.load(SeqCst) == 0 {
                    run.beat();
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                given.leave();
                Ok::<_, JobError>(())
            });
            let runner = Runner::new([hold]).unwrap();
            *kept.lock().unwrap() = Some(runner.status());
            vec![runner.worker(crate::rig::NAME, db)]
        })
        .await;
        let first = Single {
            tenant: 1,
            number: 0,
        };
        rig.enqueue(first.clone()).await;
        let status = status.lock().unwrap().take().unwrap();
        crate::support::eventually("the first", || async {
            let slots = status.slots();
            let it = slots.first()?;
            let seen = (&*it.queue, it.kind, it.running, it.slots);
            (seen == ("default", "test.single", 1, 1)).then_some(())
        })
        .await;
        let options = EnqueueOptions::new().queue("urgent");
        rig.enqueue_with(
            Single {
                tenant: 1,
                number: 1,
            },
            options,
        )
        .await;
        until_count(&counter, 2).await;
        // More if the first restarted.
        assert!(counter.most.load(SeqCst) >= 2);
        rig.supervisor.halt().await;
    })
    .await;
}
