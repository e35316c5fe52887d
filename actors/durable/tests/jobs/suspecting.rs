//! Jobs that are suspect of having ended a process run within the bounds of their kind.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use dotmac_durable::jobs::{Job, Rules};
use serde::{Deserialize, Serialize};

use crate::{
    rig::{Rig, on_both},
    sharing::{Counter, Limited, counting, until_count},
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

/// As they are after their process has ended.
async fn make_suspect(rig: &Rig) {
    rig.run("UPDATE job SET crashes = 1 WHERE state = 'ready'")
        .await;
}

#[actix::test]
async fn all_instances_together_run_no_more_suspects_than_the_kind_allows() {
    on_both(async |target| {
        let (alone, paced) = (Arc::<Counter>::default(), Arc::<Counter>::default());
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
                    counting::<Limited>(&paced, Duration::ZERO),
                    crate::rig::noting(db),
                ]
            })
            .await
        };
        let (one, other) = (start().await, start().await);
        until_count(&alone, 8).await;
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
        let counts = Arc::<Counter>::default();
        let rig = Rig::start(&target, |_| Vec::new()).await;
        for _ in 0..22 {
            rig.enqueue(Limited).await;
        }
        make_suspect(&rig).await;
        let began = Instant::now();
        let start = async || {
            Rig::start(&target, |_| {
                vec![counting::<Limited>(&counts, Duration::ZERO)]
            })
            .await
        };
        let (one, other) = (start().await, start().await);
        until_count(&counts, 22).await;
        // Two at once, and ten a second after that.
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(1900), "{took:?}");
        for rig in [one, other, rig] {
            rig.supervisor.halt().await;
        }
    })
    .await;
}
