//! The stated times of recovery, measured: a crash, a hang, an orderly stop. `--nocapture` prints them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dotmac_db::Target;
use dotmac_durable::jobs::{Backoff, Job, JobError, JobHandler, JobState, Rules, Run};
use serde::{Deserialize, Serialize};

use crate::{
    killing::taken_over,
    rig::{Rig, on_both},
    settling::{held_up, states},
    support::eventually,
};

/// What a loaded machine adds at the most.
const SLACK: Duration = Duration::from_secs(5);

fn back_end(target: &Target) -> &'static str {
    match target {
        Target::Postgres(_) => "PostgreSQL",
        Target::Sqlite(_) => "SQLite",
    }
}

#[actix::test]
async fn jobs_of_a_process_that_is_killed_run_elsewhere_within_15_s() {
    on_both(async |target| {
        let took = taken_over(&target, "KILL").await;
        println!(
            "crash, {}: done elsewhere after {took:.1?}",
            back_end(&target)
        );
        assert!(took < Duration::from_secs(15) + SLACK, "{took:?}");
    })
    .await;
}

/// Its first attempt makes no progress.
#[derive(Clone, Serialize, Deserialize)]
struct Stuck;

impl Job for Stuck {
    const KIND: &'static str = "test.stuck";
    type Output = ();
    const RULES: Rules = Rules {
        hang_after: Duration::from_secs(3),
        backoff: Backoff::fixed(Duration::from_millis(10)),
        ..Rules::DEFAULT
    };
}

#[actix::test]
async fn a_job_that_makes_no_progress_is_tried_again_after_its_hang_after() {
    on_both(async |target| {
        let start = async || {
            Rig::start(&target, |_| {
                let work = async move |run: Run<Stuck>| {
                    if run.attempt() == 1 {
                        std::future::pending::<()>().await;
                    }
                    Ok::<_, JobError>(())
                };
                vec![JobHandler::new(work)]
            })
            .await
        };
        let (rig, other) = (start().await, start().await);
        let id = rig.enqueue(Stuck).await;
        rig.until_state(id, JobState::Running).await;
        let began = Instant::now();
        rig.until_state(id, JobState::Completed).await;
        let (took, limit) = (began.elapsed(), Stuck::RULES.hang_after);
        println!(
            "hang, {}: done again after {took:.1?}, with HANG_AFTER {limit:?}",
            back_end(&target)
        );
        assert!(took < limit + SLACK, "{took:?}");
        rig.supervisor.halt().await;
        other.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn an_orderly_stop_has_others_take_at_once_what_has_not_begun() {
    on_both(async |target| {
        let (rig, ids) = held_up(&target, &Arc::default()).await;
        let other = Rig::start(&target, |_| Vec::new()).await;
        let began = Instant::now();
        let given_back = eventually("what has not begun to be ready for others", || async {
            (states(&other, &ids[60..]).await == (0, 0, 60)).then(|| began.elapsed())
        });
        let (took, _) = futures_util::join!(given_back, rig.supervisor.halt());
        println!(
            "orderly stop, {}: 60 jobs that had not begun ready for others after {took:.1?}",
            back_end(&target)
        );
        assert!(took < SLACK, "{took:?}");
        other.supervisor.halt().await;
    })
    .await;
}
