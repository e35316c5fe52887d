//! What becomes of jobs that run.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use dotmac_db::{TenantTx, Tx, types::Moment};
use dotmac_durable::jobs::{
    Attempt, Backoff, EnqueueOptions, Job, JobError, JobHandler, JobId, JobState, MAX_RESULT,
    Rules, Run, Runner, attempts, run_now,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::rig::{Rig, Work, note_done, noting, on_both, patiently, scope};

#[actix::test]
async fn each_job_is_done_once_with_two_instances_at_work() {
    on_both(async |target| {
        let one = Rig::start(&target, |db| vec![noting(db)]).await;
        let other = Rig::start(&target, |db| vec![noting(db)]).await;
        let mut last = None;
        for number in 0..40 {
            let rig = [&one, &other][usize::from(number % 2 == 0)];
            last = Some(rig.enqueue(Work { number }).await);
        }
        one.until_done(&Vec::from_iter(0..40)).await;
        let job = one.until_state(last.unwrap(), JobState::Completed).await;
        assert_eq!(job.result, Some(json!(39)));
        assert_eq!((job.attempt, job.crashes), (1, 0));
        assert!(job.started_at.is_some() && job.finished_at >= job.started_at);
        one.supervisor.halt().await;
        other.enqueue(Work { number: 40 }).await;
        other.until_done(&Vec::from_iter(0..41)).await;
        other.supervisor.halt().await;
    })
    .await;
}

async fn failed(rig: &Rig, id: JobId) -> Vec<Attempt> {
    patiently(async || {
        let read = async move |tx: &mut TenantTx| attempts(tx, id).await;
        rig.db.tenant(&scope()).read("attempts", read).await
    })
    .await
}

/// Fails in the way that the number says, twice; then it succeeds.
async fn fail_twice(run: Run<Work>) -> Result<i64, JobError> {
    if run.attempt() > 2 {
        return Ok(run.number);
    }
    match run.number {
        0 => Err(JobError::from(std::io::Error::other("the disk is on fire"))),
        1 => unreachable!("number 1 panics"),
        2 => Err(JobError::again("upstream_unavailable", "503")),
        3 => Err(JobError::again_after(
            Duration::from_millis(300),
            "limited",
            "429",
        )),
        _ => Err(JobError::fail("no_such_file", "it is gone")),
    }
}

#[actix::test]
async fn a_job_that_fails_is_tried_again_and_its_attempts_are_kept() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| vec![JobHandler::new(fail_twice)]).await;
        let other = Rig::start(&target, |_| vec![JobHandler::new(fail_twice)]).await;
        let codes = ["error", "panicked", "upstream_unavailable", "limited"];
        for (number, code) in (0..).zip(codes) {
            let began = Instant::now();
            let id = rig.enqueue(Work { number }).await;
            let job = rig.until_state(id, JobState::Completed).await;
            assert_eq!((job.attempt, job.result), (3, Some(json!(number))));
            let failed = failed(&rig, id).await;
            let found: Vec<_> = failed.iter().map(|it| (it.attempt, &*it.code)).collect();
            assert_eq!(found, [(1, code), (2, code)], "{failed:?}");
            assert_eq!(job.last_error.unwrap().code, code);
            let waited = began.elapsed() >= Duration::from_millis(600);
            assert!(
                waited || code != "limited",
                "it did not wait for the upstream"
            );
        }
        let id = rig.enqueue(Work { number: 4 }).await;
        let job = rig.until_state(id, JobState::Failed).await;
        assert_eq!(job.attempt, 1);
        assert_eq!(job.last_error.unwrap().message, "it is gone");
        // With as many attempts as it has.
        let options = EnqueueOptions::new().max_attempts(2);
        let id = rig.enqueue_with(Work { number: 0 }, options).await.id();
        let job = rig.until_state(id, JobState::Failed).await;
        assert_eq!((job.attempt, job.max_attempts), (2, 2));
        assert_eq!(job.last_error.unwrap().message, "the disk is on fire");
        rig.supervisor.halt().await;
        other.supervisor.halt().await;
    })
    .await;
}

#[derive(Clone, Serialize, Deserialize)]
struct Talk(usize);

impl Job for Talk {
    const KIND: &'static str = "test.talk";
    type Output = String;
    const RULES: Rules = Rules {
        queue: "talking",
        backoff: Backoff::fixed(Duration::ZERO),
        ..Rules::DEFAULT
    };
}

#[actix::test]
async fn a_result_is_kept_up_to_its_limit_and_arguments_of_another_shape_fail() {
    on_both(async |target| {
        let talk = async |run: Run<Talk>| Ok::<_, JobError>("x".repeat(run.0));
        let rig = Rig::start(&target, |_| vec![JobHandler::new(talk)]).await;
        let other = Rig::start(&target, |_| vec![JobHandler::new(talk)]).await;
        let id = rig.enqueue(Talk(MAX_RESULT - 2)).await;
        let job = rig.until_state(id, JobState::Completed).await;
        let result = job.result.unwrap();
        assert_eq!(result.as_str().unwrap().len(), MAX_RESULT - 2);
        assert_eq!(job.queue, "talking");
        let id = rig.enqueue(Talk(MAX_RESULT - 1)).await;
        let job = rig.until_state(id, JobState::Failed).await;
        let error = job.last_error.unwrap();
        assert_eq!(error.code, "result_too_large");
        assert!(
            error.message.contains("16385 bytes; 16384 are allowed"),
            "{error:?}"
        );

        let options = EnqueueOptions::new().run_at(Moment::now() + Duration::from_secs(3600));
        let id = rig.enqueue_with(Talk(1), options).await.id();
        rig.run("UPDATE job_payload SET args = '{}'").await;
        let run = async move |tx: &mut TenantTx| run_now(tx, id).await;
        rig.db
            .tenant(&scope())
            .transaction("run now", run)
            .await
            .unwrap();
        let job = rig.until_state(id, JobState::Failed).await;
        assert_eq!(job.last_error.unwrap().code, "args_invalid");
        rig.supervisor.halt().await;
        other.supervisor.halt().await;
    })
    .await;
}

/// The effect of an attempt that failed is not there, that of the one that succeeded is there once.
#[actix::test]
async fn what_a_handler_does_in_the_transaction_of_its_job_takes_place_once() {
    on_both(async |target| {
        let tries = Arc::<AtomicU32>::default();
        let start = async || {
            let counted = Arc::clone(&tries);
            Rig::start(&target, move |db| {
                let handler = async move |tx: &mut TenantTx, run: Arc<Run<Work>>| {
                    note_done(tx, run.number, "transaction").await?;
                    if counted.fetch_add(1, Relaxed) < 2 {
                        return Err(JobError::again("not_yet", "not yet"));
                    }
                    Ok(run.number)
                };
                vec![JobHandler::in_transaction(db, handler)]
            })
            .await
        };
        let (rig, other) = (start().await, start().await);
        let id = rig.enqueue(Work { number: 7 }).await;
        let job = rig.until_state(id, JobState::Completed).await;
        assert_eq!((job.attempt, job.result), (3, Some(json!(7))));
        assert_eq!(rig.numbers().await, [7]);
        rig.supervisor.halt().await;
        other.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn jobs_that_wait_for_a_time_run_then_and_progress_is_shown() {
    on_both(async |target| {
        let start = async || {
            Rig::start(&target, |_| {
                let work = async |run: Run<Work>| {
                    run.progress(1, Some(2), "half");
                    while run.number == 2 && !run.is_cancelled() {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        run.beat();
                    }
                    run.progress(2, Some(2), "whole");
                    Ok::<_, JobError>(run.number)
                };
                vec![JobHandler::new(work)]
            })
            .await
        };
        let (rig, other) = (start().await, start().await);
        let soon = Moment::now() + Duration::from_millis(1500);
        let options = EnqueueOptions::new().run_at(soon);
        let id = rig.enqueue_with(Work { number: 1 }, options).await.id();
        assert_eq!(rig.find(id).await.unwrap().state, JobState::Scheduled);
        let job = rig.until_state(id, JobState::Completed).await;
        assert!(job.started_at.unwrap() >= soon, "{job:?}");
        assert_eq!(job.progress.unwrap().message, "whole");

        let id = rig.enqueue(Work { number: 2 }).await;
        crate::support::eventually("progress", || async {
            let job = rig.find(id).await?;
            let progress = job.progress.filter(|it| it.message == "half")?;
            assert_eq!((progress.done, progress.total), (1, Some(2)));
            Some(())
        })
        .await;
        let cancel = async move |tx: &mut TenantTx| dotmac_durable::jobs::cancel(tx, id).await;
        rig.db
            .tenant(&scope())
            .transaction("cancel", cancel)
            .await
            .unwrap();
        // It ends well although it was cancelled, and that is what is said.
        rig.until_state(id, JobState::Completed).await;
        rig.supervisor.halt().await;
        other.supervisor.halt().await;
    })
    .await;
}

#[derive(Clone, Serialize, Deserialize)]
struct Systemic;

impl Job for Systemic {
    const KIND: &'static str = "test.systemic";
    type Output = ();
}

#[actix::test]
async fn a_job_of_the_system_runs_without_a_tenant() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| {
            let work = async |run: Run<Systemic>| {
                assert!(run.tenant().is_none() && run.scope().is_none());
                Ok::<_, JobError>(())
            };
            vec![JobHandler::new(work)]
        })
        .await;
        let enqueue = async |tx: &mut Tx| {
            use dotmac_durable::jobs::Enqueue as _;
            tx.enqueue(&Systemic).await
        };
        let id = rig
            .system()
            .transaction("enqueue", enqueue)
            .await
            .unwrap()
            .id();
        crate::support::eventually("the job", || async {
            let find = async move |c: &mut dotmac_db::Connection| {
                dotmac_durable::jobs::find_any(c, id).await
            };
            let job = rig.system().read("find", find).await.ok()??;
            (job.state == JobState::Completed && job.result.is_none()).then_some(())
        })
        .await;
        rig.supervisor.halt().await;
    })
    .await;
}

#[test]
fn a_kind_has_one_handler() {
    let handler = || JobHandler::new(async |_: Run<Systemic>| Ok::<_, JobError>(()));
    let refused = Runner::new([handler(), handler()]).err().unwrap();
    assert_eq!(
        refused.to_string(),
        "two handlers for jobs `test.systemic`; a kind has one"
    );
}
