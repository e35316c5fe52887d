//! Jobs that are suspect of having ended a process run within the bounds of their kind.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use dotmac_durable::jobs::{Job, JobError, JobHandler, Rate, Rules, Run};
use serde::{Deserialize, Serialize};

use crate::{
    rig::{Rig, on_both},
    support::eventually,
};

/// A kind of which all instances together run one at a time.
#[derive(Clone, Serialize, Deserialize)]
struct Alone;

impl Job for Alone {
    const KIND: &'static str = "test.alone";
    type Output = ();
    const RULES: Rules = Rules {
        total: Some(1),
        ..Rules::DEFAULT
    };
}

/// A kind of which ten start a second.
#[derive(Clone, Serialize, Deserialize)]
struct Paced;

impl Job for Paced {
    const KIND: &'static str = "test.paced";
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
struct Counts {
    now: AtomicI64,
    most: AtomicI64,
    all: AtomicI64,
}

fn counting<J: Job<Output = ()>>(counts: &Arc<Counts>, takes: Duration) -> JobHandler {
    let counts = Arc::clone(counts);
    JobHandler::new(async move |_: Run<J>| {
        let now = counts.now.fetch_add(1, SeqCst) + 1;
        counts.most.fetch_max(now, SeqCst);
        tokio::time::sleep(takes).await;
        counts.now.fetch_sub(1, SeqCst);
        counts.all.fetch_add(1, SeqCst);
        Ok::<_, JobError>(())
    })
}

async fn until(counts: &Counts, all: i64) {
    eventually("jobs", || async {
        (counts.all.load(SeqCst) >= all).then_some(())
    })
    .await;
}

/// As they are after their process has ended.
async fn make_suspect(rig: &Rig) {
    rig.run("UPDATE job SET crashes = 1 WHERE state = 'ready'")
        .await;
}

#[actix::test]
async fn all_instances_together_run_no_more_suspects_than_the_kind_allows() {
    on_both(async |target| {
        let (alone, paced) = (Arc::<Counts>::default(), Arc::<Counts>::default());
        let rig = Rig::start(&target, |_| Vec::new()).await;
        for _ in 0..4 {
            rig.enqueue(Alone).await;
        }
        // Kinds without a bound go on meanwhile.
        for _ in 0..2 {
            rig.enqueue(crate::rig::Work { number: 1 }).await;
        }
        make_suspect(&rig).await;
        for _ in 0..4 {
            rig.enqueue(Alone).await;
        }
        let start = async || {
            let takes = Duration::from_millis(100);
            Rig::start(&target, |db| {
                vec![
                    counting::<Alone>(&alone, takes),
                    counting::<Paced>(&paced, Duration::ZERO),
                    crate::rig::noting(db),
                ]
            })
            .await
        };
        let (one, other) = (start().await, start().await);
        until(&alone, 8).await;
        assert_eq!(alone.most.load(SeqCst), 1);
        rig.until_done(&[1, 1]).await;
        for rig in [one, other, rig] {
            rig.supervisor.halt().await;
        }
    })
    .await;
}

#[actix::test]
async fn suspects_start_no_faster_than_the_rate_of_their_kind_allows() {
    on_both(async |target| {
        let counts = Arc::<Counts>::default();
        let rig = Rig::start(&target, |_| Vec::new()).await;
        for _ in 0..22 {
            rig.enqueue(Paced).await;
        }
        make_suspect(&rig).await;
        let began = Instant::now();
        let start = async || {
            Rig::start(&target, |_| {
                vec![counting::<Paced>(&counts, Duration::ZERO)]
            })
            .await
        };
        let (one, other) = (start().await, start().await);
        until(&counts, 22).await;
        // Two at once, and ten a second after that.
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(1900), "{took:?}");
        for rig in [one, other, rig] {
            rig.supervisor.halt().await;
        }
    })
    .await;
}
