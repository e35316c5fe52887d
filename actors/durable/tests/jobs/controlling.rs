//! What is done with jobs and queues from outside, and what is seen of them.

use std::time::Duration;

use dotmac_db::{Connection, TenantTx, Tx, types::Moment};
use dotmac_durable::jobs::{
    Acted, EnqueueOptions, JobError, JobFilter, JobHandler, JobId, JobState, Kept, Run, cancel,
    list, maintain, pause, queues, resume, retry, run_now, stats,
};

use crate::rig::{Rig, Work, noting, on_both, patiently, scope};

#[derive(Clone, Copy)]
enum Act {
    Cancel,
    Retry,
    RunNow,
}

async fn act(rig: &Rig, id: JobId, act: Act) -> Acted {
    patiently(async || {
        let work = async move |tx: &mut TenantTx| match act {
            Act::Cancel => cancel(tx, id).await,
            Act::Retry => retry(tx, id).await,
            Act::RunNow => run_now(tx, id).await,
        };
        rig.db.tenant(&scope()).transaction("act", work).await
    })
    .await
}

fn later() -> EnqueueOptions {
    EnqueueOptions::new().run_at(Moment::now() + Duration::from_secs(3600))
}

#[actix::test]
async fn a_job_that_waits_is_cancelled_at_once_and_can_be_done_after_all() {
    on_both(async |target| {
        let rig = Rig::start(&target, |db| vec![noting(db)]).await;
        let other = Rig::start(&target, |db| vec![noting(db)]).await;
        let id = rig.enqueue_with(Work { number: 1 }, later()).await.id();
        assert_eq!(
            act(&rig, id, Act::Retry).await,
            Acted::Refused(JobState::Scheduled)
        );
        assert_eq!(
            act(&rig, id, Act::Cancel).await,
            Acted::Done(JobState::Cancelled)
        );
        assert_eq!(
            act(&rig, id, Act::Cancel).await,
            Acted::Refused(JobState::Cancelled)
        );
        assert_eq!(
            act(&rig, id, Act::RunNow).await,
            Acted::Refused(JobState::Cancelled)
        );
        assert!(rig.find(id).await.unwrap().finished_at.is_some());
        assert_eq!(
            act(&rig, id, Act::Retry).await,
            Acted::Done(JobState::Ready)
        );
        rig.until_state(id, JobState::Completed).await;
        let id = rig.enqueue_with(Work { number: 2 }, later()).await.id();
        assert_eq!(
            act(&rig, id, Act::RunNow).await,
            Acted::Done(JobState::Ready)
        );
        rig.until_done(&[1, 2]).await;
        assert_eq!(act(&rig, JobId::new(), Act::Cancel).await, Acted::Unknown);
        rig.supervisor.halt().await;
        other.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn a_job_that_runs_sees_that_it_is_cancelled() {
    on_both(async |target| {
        let one = Rig::start(&target, |_| {
            let work = async |run: Run<Work>| {
                let beats = async {
                    loop {
                        run.beat();
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                };
                tokio::select! {
                    () = run.cancelled() => Err::<i64, _>(JobError::cancelled()),
                    () = beats => Ok(0),
                }
            };
            vec![JobHandler::new(work)]
        })
        .await;
        // Asked for at another instance than the one that runs it.
        let other = Rig::start(&target, |_| Vec::new()).await;
        let id = one.enqueue(Work { number: 1 }).await;
        one.until_state(id, JobState::Running).await;
        assert_eq!(
            act(&other, id, Act::Cancel).await,
            Acted::Done(JobState::Running)
        );
        let job = one.until_state(id, JobState::Cancelled).await;
        assert!(job.finished_at.is_some(), "{job:?}");
        one.supervisor.halt().await;
        other.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn a_failed_job_is_done_when_that_is_asked_for_with_one_more_attempt() {
    on_both(async |target| {
        let start = async || {
            Rig::start(&target, |_| {
                let work = async |run: Run<Work>| {
                    if run.attempt() == 1 {
                        return Err(JobError::fail("not_yet", "not yet"));
                    }
                    Ok(run.number)
                };
                vec![JobHandler::new(work)]
            })
            .await
        };
        let (rig, other) = (start().await, start().await);
        let options = EnqueueOptions::new().max_attempts(1);
        let id = rig.enqueue_with(Work { number: 1 }, options).await.id();
        rig.until_state(id, JobState::Failed).await;
        let read = async |tx: &mut TenantTx| stats(tx).await;
        let stats = rig.db.tenant(&scope()).read("stats", read).await.unwrap();
        let kind = &stats.kinds[0];
        assert_eq!((&*kind.kind, kind.failed, kind.ready), ("test.work", 1, 0));
        assert_eq!(
            act(&rig, id, Act::Retry).await,
            Acted::Done(JobState::Ready)
        );
        let job = rig.until_state(id, JobState::Completed).await;
        assert_eq!((job.attempt, job.max_attempts), (2, 2));
        rig.supervisor.halt().await;
        other.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn no_job_of_a_paused_queue_begins_on_any_instance() {
    on_both(async |target| {
        let one = Rig::start(&target, |db| vec![noting(db)]).await;
        let other = Rig::start(&target, |db| vec![noting(db)]).await;
        one.enqueue(Work { number: 1 }).await;
        one.until_done(&[1]).await;
        let set = async |is_paused: bool| {
            let work = async move |tx: &mut Tx| match is_paused {
                true => pause(tx, "default").await,
                false => resume(tx, "default").await,
            };
            other.system().transaction("pause", work).await.unwrap()
        };
        assert!(set(true).await);
        let read = async |c: &mut Connection| queues(c).await;
        let found = one.system().read("queues", read).await.unwrap();
        assert!(found[0].name == "default" && found[0].paused_at.is_some());
        let id = one.enqueue(Work { number: 2 }).await;
        let bulk = EnqueueOptions::new().queue("bulk");
        one.enqueue_with(Work { number: 3 }, bulk).await;
        one.until_done(&[1, 3]).await;
        assert_eq!(one.find(id).await.unwrap().state, JobState::Ready);
        assert!(set(false).await);
        one.until_done(&[1, 2, 3]).await;
        let unknown = async |tx: &mut Tx| pause(tx, "no_such_queue").await;
        assert!(!one.system().transaction("pause", unknown).await.unwrap());
        one.supervisor.halt().await;
        other.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn jobs_are_listed_by_state_kind_and_queue_the_newest_first() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        let mut ids = Vec::new();
        for number in 0..5 {
            let options = match number {
                4 => later(),
                3 => EnqueueOptions::new().queue("bulk"),
                _ => EnqueueOptions::new(),
            };
            ids.push(rig.enqueue_with(Work { number }, options).await.id());
        }
        let page = async |filter: JobFilter, after: Option<JobId>, limit: i64| {
            let read = async move |tx: &mut TenantTx| list(tx, &filter, after, limit).await;
            let jobs = rig.db.tenant(&scope()).read("list", read).await.unwrap();
            jobs.iter().map(|job| job.id).collect::<Vec<_>>()
        };
        assert_eq!(page(JobFilter::default(), None, 2).await, [ids[4], ids[3]]);
        assert_eq!(
            page(JobFilter::default(), Some(ids[3]), 9).await,
            [ids[2], ids[1], ids[0]]
        );
        let state = Some(JobState::Scheduled);
        assert_eq!(
            page(
                JobFilter {
                    state,
                    ..JobFilter::default()
                },
                None,
                9
            )
            .await,
            [ids[4]]
        );
        let queue = Some("bulk".to_owned());
        assert_eq!(
            page(
                JobFilter {
                    queue,
                    ..JobFilter::default()
                },
                None,
                9
            )
            .await,
            [ids[3]]
        );
        let kind = Some("test.other".to_owned());
        assert!(
            page(
                JobFilter {
                    kind,
                    ..JobFilter::default()
                },
                None,
                9
            )
            .await
            .is_empty()
        );
        rig.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn finished_jobs_are_kept_for_as_long_as_said() {
    on_both(async |target| {
        let start = async || {
            Rig::start(&target, |_| {
                let work = async |run: Run<Work>| match run.number {
                    0 => Ok(0),
                    _ => Err(JobError::fail("no", "no")),
                };
                vec![JobHandler::new(work)]
            })
            .await
        };
        let (rig, other) = (start().await, start().await);
        let unique = EnqueueOptions::new().unique("key");
        let completed = rig
            .enqueue_with(Work { number: 0 }, unique.clone())
            .await
            .id();
        let failed = rig.enqueue(Work { number: 1 }).await;
        let waiting = rig.enqueue_with(Work { number: 2 }, later()).await.id();
        rig.until_state(completed, JobState::Completed).await;
        rig.until_state(failed, JobState::Failed).await;
        let expire = async |days: u64| {
            let now = Moment::now() + Duration::from_secs(days * 24 * 60 * 60 + 60);
            let gone = maintain(&rig.system(), now, Kept::default()).await.unwrap();
            let mut kept = Vec::new();
            for id in [completed, failed, waiting] {
                kept.push(rig.find(id).await.is_some());
            }
            (gone, kept)
        };
        assert_eq!(expire(0).await, (0, vec![true, true, true]));
        assert_eq!(expire(1).await, (1, vec![false, true, true]));
        assert_eq!(expire(30).await, (1, vec![false, false, true]));
        assert_eq!(expire(400).await, (0, vec![false, false, true]));
        rig.supervisor.halt().await;
        other.supervisor.halt().await;
    })
    .await;
}
