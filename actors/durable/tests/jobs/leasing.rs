//! Leases: a job that hangs or whose instance stops goes to others, and a worker that comes back late changes nothing.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use dotmac_db::{DbError, ModuleDb, TenantTx};
use dotmac_durable::jobs::{Job, JobError, JobHandler, JobState, LeaseLost, Rules, Run, hold_all};
use serde::{Deserialize, Serialize};

use crate::{
    rig::{Rig, Work, note_done, on_both},
    support::eventually,
};

/// What a late worker met at each of its writes.
type Met = Arc<Mutex<Vec<bool>>>;

/// The first attempt blocks its thread until it is let go, so that it cannot be ended, and then writes in both ways.
fn late(db: &ModuleDb, goes: &Arc<AtomicBool>, met: &Met, tries: &Arc<AtomicU32>) -> JobHandler {
    let (db, goes, met, tries) = (
        db.clone(),
        Arc::clone(goes),
        Arc::clone(met),
        Arc::clone(tries),
    );
    let first = Arc::new(Mutex::new(None));
    JobHandler::new(async move |run: Run<Work>| {
        let (is_first, run) = (tries.fetch_add(1, SeqCst) == 0, Arc::new(run));
        let scope = run.scope().unwrap();
        if is_first {
            *first.lock().unwrap() = Some(run.lease());
            let (db, scope, late) = (db.clone(), scope.clone(), Arc::clone(&run));
            // Not ended with its job: as a worker whose process was frozen.
            let _left = tokio::spawn(async move {
                while !goes.load(SeqCst) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                let lease = late.lease();
                let hold = async move |tx: &mut TenantTx| hold_all(tx, &[lease]).await;
                let held: Result<_, DbError> = db.tenant(&scope).transaction("hold", hold).await;
                met.lock().unwrap().push(held.unwrap() == [false]);
                let guarded = Arc::clone(&late);
                let guard = async move |tx: &mut TenantTx| {
                    note_done(tx, 1, "late").await?;
                    guarded.guard(tx).await
                };
                let complete = async move |tx: &mut TenantTx| {
                    note_done(tx, 2, "late").await?;
                    late.complete(tx, &0).await
                };
                for error in [
                    db.tenant(&scope)
                        .transaction("guard", guard)
                        .await
                        .unwrap_err(),
                    db.tenant(&scope)
                        .transaction("complete", complete)
                        .await
                        .unwrap_err(),
                ] {
                    met.lock().unwrap().push(LeaseLost::is_cause_of(&error));
                }
            });
            std::future::pending::<()>().await;
        }
        let leases = [first.lock().unwrap().unwrap(), run.lease()];
        let work = async move |tx: &mut TenantTx| {
            note_done(tx, run.number, "second").await?;
            assert_eq!(hold_all(tx, &leases).await?, [false, true]);
            run.complete(tx, &run.number).await?;
            Ok::<_, DbError>(run.number)
        };
        let done = db.tenant(&scope).transaction("work", work).await;
        done.map_err(JobError::from)
    })
}

#[actix::test]
async fn a_job_that_hangs_is_tried_again_and_its_late_worker_changes_nothing() {
    on_both(async |target| {
        let (goes, met, tries) = (Arc::default(), Met::default(), Arc::default());
        let one = Rig::start(&target, |db| vec![late(db, &goes, &met, &tries)]).await;
        let id = one.enqueue(Work { number: 7 }).await;
        let began = Instant::now();
        let job = one.until_state(id, JobState::Completed).await;
        assert!(began.elapsed() >= Work::RULES.hang_after);
        assert_eq!(job.attempt, 2);
        assert_eq!(job.last_error.unwrap().code, "hung");
        goes.store(true, SeqCst);
        eventually("the late worker", || async {
            (met.lock().unwrap().len() == 3).then_some(())
        })
        .await;
        assert_eq!(*met.lock().unwrap(), [true, true, true]);
        assert_eq!(one.numbers().await, [7]);
        let after = one.find(id).await.unwrap();
        assert_eq!((after.state, after.attempt), (JobState::Completed, 2));
        one.supervisor.halt().await;
    })
    .await;
}

/// Handlers that block their threads hold up neither the worker nor, once all threads are blocked, the jobs after them.
#[actix::test]
async fn a_handler_that_blocks_its_thread_is_given_up() {
    on_both(async |target| {
        let goes = Arc::<AtomicBool>::default();
        let gone = Arc::clone(&goes);
        let rig = Rig::start(&target, move |_| {
            let work = async move |run: Run<Work>| {
                if run.attempt() == 1 {
                    while !gone.load(SeqCst) {
                        #[expect(clippy::disallowed_methods, reason = "it blocks on purpose")]
                        std::thread::sleep(Duration::from_millis(10));
                    }
                }
                Ok::<_, JobError>(run.number)
            };
            vec![JobHandler::new(work)]
        })
        .await;
        let mut ids = Vec::new();
        for number in 0..4 {
            ids.push(rig.enqueue(Work { number }).await);
        }
        for id in ids {
            let job = rig.until_state(id, JobState::Completed).await;
            assert_eq!(job.attempt, 2, "{job:?}");
        }
        goes.store(true, SeqCst);
        rig.supervisor.halt().await;
    })
    .await;
}

/// A handler that hangs in the transaction of its job is given up with it, so that nothing of it keeps the job, or on SQLite
/// all writers.
#[actix::test]
async fn a_handler_that_hangs_in_its_transaction_is_given_up() {
    on_both(async |target| {
        let rig = Rig::start(&target, |db| {
            let work = async move |tx: &mut TenantTx, run: Arc<Run<Work>>| {
                note_done(tx, run.number, "transaction").await?;
                if run.attempt() == 1 {
                    std::future::pending::<()>().await;
                }
                Ok::<_, DbError>(run.number)
            };
            vec![JobHandler::in_transaction(db, work)]
        })
        .await;
        let began = Instant::now();
        let id = rig.enqueue(Work { number: 3 }).await;
        let job = rig.until_state(id, JobState::Completed).await;
        assert_eq!(
            (job.attempt, job.last_error.unwrap().code),
            (2, "hung".to_owned())
        );
        // Sooner than any time-out of the database.
        let took = began.elapsed();
        assert!(
            took < Work::RULES.hang_after + Duration::from_secs(5),
            "{took:?}"
        );
        assert_eq!(rig.numbers().await, [3], "what it had written is gone");
        rig.supervisor.halt().await;
    })
    .await;
}

/// A kind that may go without progress for long.
#[derive(Clone, Serialize, Deserialize)]
struct Long {
    number: i64,
}

impl Job for Long {
    const KIND: &'static str = "test.long";
    type Output = ();
    const RULES: Rules = Rules {
        hang_after: Duration::from_secs(600),
        ..Rules::DEFAULT
    };
}

/// Jobs have the time that draining takes; what is not done then runs elsewhere, and no attempt counts.
#[actix::test]
async fn an_orderly_stop_lets_jobs_end_and_gives_back_those_that_do_not() {
    on_both(async |target| {
        let work = |waits: bool| {
            move |_: &ModuleDb| {
                let work = async move |run: Run<Long>| {
                    if run.number == 0 {
                        while !run.is_stopping() && waits {
                            tokio::time::sleep(Duration::from_millis(10)).await;
                        }
                    } else if waits {
                        std::future::pending::<()>().await;
                    }
                    Ok::<_, JobError>(())
                };
                vec![JobHandler::new(work)]
            }
        };
        let drain = Duration::from_millis(1500);
        let one = Rig::draining(&target, drain, work(true)).await;
        let ends = one.enqueue(Long { number: 0 }).await;
        let hangs = one.enqueue(Long { number: 1 }).await;
        one.until_state(ends, JobState::Running).await;
        one.until_state(hangs, JobState::Running).await;
        let other = Rig::start(&target, |_| Vec::new()).await;
        let began = Instant::now();
        one.supervisor.halt().await;
        assert!(began.elapsed() >= drain);
        let ended = other.find(ends).await.unwrap();
        assert_eq!((ended.state, ended.attempt), (JobState::Completed, 1));
        let back = other.find(hangs).await.unwrap();
        assert_eq!((back.state, back.attempt), (JobState::Ready, 0));
        other.supervisor.halt().await;

        let other = Rig::start(&target, work(false)).await;
        let job = other.until_state(hangs, JobState::Completed).await;
        assert_eq!((job.attempt, job.crashes), (1, 0));
        other.supervisor.halt().await;
    })
    .await;
}

/// Jobs go on where they were when the server comes back: none is lost, none is doubled.
#[actix::test]
async fn a_server_that_is_restarted_loses_no_job() {
    let mut server = crate::support::Postgres::start().await;
    let target = crate::rig::postgres(server.port);
    let one = Rig::start(&target, |db| vec![crate::rig::noting(db)]).await;
    let other = Rig::start(&target, |db| vec![crate::rig::noting(db)]).await;
    for round in 0..2 {
        for number in 0..10 {
            one.enqueue(Work {
                number: round * 10 + number,
            })
            .await;
        }
        server.kill().await;
        server.restart().await;
        for rig in [&one, &other] {
            rig.until(|board| board.readiness.serves()).await;
        }
    }
    one.enqueue(Work { number: 20 }).await;
    one.until_done(&Vec::from_iter(0..21)).await;
    one.supervisor.halt().await;
    other.supervisor.halt().await;
}
