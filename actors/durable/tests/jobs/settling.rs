//! Jobs that are claimed together and whose ends are written together: each stands for itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use dotmac_db::{Target, Tx};
use dotmac_durable::jobs::{Job, JobError, JobHandler, JobId, JobState, Rules, Run, pause, resume};
use serde::{Deserialize, Serialize};

use crate::{
    rig::{Rig, Work, on_both, patiently},
    support::eventually,
};

async fn set_paused(rig: &Rig, is_paused: bool) {
    patiently(async || {
        let set = async move |tx: &mut Tx| match is_paused {
            true => pause(tx, "default").await,
            false => resume(tx, "default").await,
        };
        rig.system().transaction("pause", set).await
    })
    .await;
}

/// The ends of some jobs are written together: one of them is too late, another is refused by the database.
#[actix::test]
async fn an_end_that_is_late_or_refused_keeps_no_other_from_being_written() {
    on_both(async |target| {
        let goes = Arc::<AtomicBool>::default();
        let gone = Arc::clone(&goes);
        let rig = Rig::start(&target, move |_| {
            let wait = async move |run: Run<Work>| {
                while !gone.load(SeqCst) {
                    run.beat();
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Ok::<_, JobError>(run.number)
            };
            vec![JobHandler::new(wait)]
        })
        .await;
        for sql in refusing(&target) {
            rig.run(sql).await;
        }
        let mut ids = Vec::new();
        for number in [11, 12, 13, 14] {
            ids.push(rig.enqueue(Work { number }).await);
        }
        for id in &ids {
            rig.until_state(*id, JobState::Running).await;
        }
        // As if another had it.
        rig.run("UPDATE job SET lease = lease + 1 WHERE id IN (SELECT job_id FROM job_payload WHERE CAST(args AS text) LIKE '%12%')")
            .await;
        goes.store(true, SeqCst);
        for id in [ids[0], ids[3]] {
            let job = rig.until_state(id, JobState::Completed).await;
            assert_eq!(job.attempt, 1);
        }
        let refused = rig.until_state(ids[2], JobState::Failed).await;
        let error = refused.last_error.unwrap();
        assert_eq!((&*error.code, refused.result), ("end_refused", None));
        assert!(error.message.contains("not thirteen"), "{error:?}");
        let late = rig.find(ids[1]).await.unwrap();
        assert_eq!((late.state, late.result), (JobState::Running, None));
        // The worker has not restarted.
        let id = rig.enqueue(Work { number: 15 }).await;
        rig.until_state(id, JobState::Completed).await;
        let late = rig.find(ids[1]).await.unwrap();
        assert_eq!((late.state, late.attempt), (JobState::Running, 1));
        rig.supervisor.halt().await;
    })
    .await;
}

/// What makes the database refuse one result.
fn refusing(target: &Target) -> &'static [&'static str] {
    match target {
        Target::Postgres(_) => &[
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF NEW.result::text = '13' THEN RAISE EXCEPTION 'not thirteen'; END IF; RETURN NEW; END $$",
            "CREATE TRIGGER refuse BEFORE INSERT ON job_result FOR EACH ROW EXECUTE FUNCTION refuse()",
        ],
        Target::Sqlite(_) => &[
            "CREATE TRIGGER refuse BEFORE INSERT ON job_result WHEN CAST(NEW.result AS TEXT) = '13' \
             BEGIN SELECT RAISE(ABORT, 'not thirteen'); END",
        ],
    }
}

/// A kind of which one job runs at a time, and most are over at once.
#[derive(Clone, Serialize, Deserialize)]
struct Short {
    number: i64,
}

impl Job for Short {
    const KIND: &'static str = "test.short";
    type Output = ();
    const RULES: Rules = Rules {
        slots: 1,
        hang_after: Duration::from_secs(600),
        ..Rules::DEFAULT
    };
}

/// Does all but number 60 at once; that one stays until it is asked to stop.
fn short(begun: &Arc<AtomicU32>) -> JobHandler {
    let begun = Arc::clone(begun);
    JobHandler::new(async move |run: Run<Short>| {
        begun.fetch_add(1, SeqCst);
        while run.number == 60 && !run.is_stopping() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if run.number == 60 {
            return Err(JobError::again("stopping", "the process stops"));
        }
        Ok(())
    })
}

/// An instance that has 120 jobs, of which number 60 has the only slot; and them.
pub async fn held_up(target: &Target, begun: &Arc<AtomicU32>) -> (Rig, Vec<JobId>) {
    let rig = Rig::start(target, |_| vec![short(begun)]).await;
    let first = rig.enqueue(Short { number: 0 }).await;
    rig.until_state(first, JobState::Completed).await;
    set_paused(&rig, true).await;
    let mut ids = Vec::new();
    for number in 1..=120 {
        ids.push(rig.enqueue(Short { number }).await);
    }
    set_paused(&rig, false).await;
    eventually("the slot to be held", || async {
        (begun.load(SeqCst) == 61).then_some(())
    })
    .await;
    (rig, ids)
}

pub async fn states(rig: &Rig, ids: &[JobId]) -> (usize, usize, usize) {
    let (mut completed, mut running, mut ready) = (0, 0, 0);
    for id in ids {
        let job = rig.find(*id).await.unwrap();
        match job.state {
            JobState::Completed => completed += 1,
            JobState::Running => running += 1,
            JobState::Ready => {
                assert_eq!((job.attempt, job.crashes), (0, 0), "{job:?}");
                ready += 1;
            }
            _ => unreachable!("{job:?}"),
        }
    }
    (completed, running, ready)
}

/// Jobs that are claimed ahead do not wait for long behind one that holds the slot: others could do them.
#[actix::test]
async fn jobs_claimed_ahead_are_given_back_if_they_get_no_slot() {
    on_both(async |target| {
        let begun = Arc::default();
        let (rig, ids) = held_up(&target, &begun).await;
        eventually("the others to be given back", || async {
            (states(&rig, &ids).await == (59, 1, 60)).then_some(())
        })
        .await;
        assert_eq!(begun.load(SeqCst), 61);
        rig.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn an_orderly_stop_gives_back_at_once_what_was_claimed_ahead() {
    on_both(async |target| {
        let begun = Arc::default();
        let (rig, ids) = held_up(&target, &begun).await;
        rig.supervisor.halt().await;
        assert_eq!(
            begun.load(SeqCst),
            61,
            "a job began while the worker stopped"
        );
        let other = Rig::start(&target, |_| Vec::new()).await;
        let (completed, running, _) = states(&other, &ids[..59]).await;
        assert_eq!((completed, running), (59, 0));
        assert_eq!(states(&other, &ids[60..]).await, (0, 0, 60));
        let stopped = other.find(ids[59]).await.unwrap();
        assert_eq!((stopped.state, stopped.attempt), (JobState::Ready, 0));
        other.supervisor.halt().await;
    })
    .await;
}

/// One that is claimed ahead and does not run is cancelled like any other, and is not begun.
#[actix::test]
async fn a_job_claimed_ahead_is_cancelled_without_being_begun() {
    on_both(async |target| {
        let begun = Arc::default();
        let (rig, ids) = held_up(&target, &begun).await;
        let id = ids[70];
        let cancel = async move |tx: &mut Tx| dotmac_durable::jobs::cancel(tx, id).await;
        rig.system().transaction("cancel", cancel).await.unwrap();
        let job = rig.until_state(id, JobState::Cancelled).await;
        assert!(job.finished_at.is_some());
        assert_eq!(begun.load(SeqCst), 61);
        rig.supervisor.halt().await;
    })
    .await;
}
