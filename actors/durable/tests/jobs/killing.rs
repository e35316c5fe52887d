//! Processes that enqueue and run jobs are killed again and again, and frozen: no job is lost, none is done twice, none
//! runs twice at once, and what takes its process down is parked.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError, ModuleDb, Target, TenantTx, on};
use dotmac_durable::jobs::{
    Enqueue, Job, JobError, JobFilter, JobHandler, JobState, Rules, Run, list_all,
};
use serde::{Deserialize, Serialize};

use crate::{
    rig::{Rig, Work, note_done, noting, on_both, postgres, scope},
    support::{Postgres, eventually, process::Process},
    victim::{self, kill_again_and_again, start, target},
};

diesel::table! {
    job_worker (pid) {
        pid -> Integer,
    }
}

/// Not done in one transaction: notes when it begins, and completes when it ends.
#[derive(Clone, Serialize, Deserialize)]
struct Slow {
    number: i64,
}

impl Job for Slow {
    const KIND: &'static str = "test.slow";
    type Output = ();
    const RULES: Rules = Rules {
        hang_after: Duration::from_secs(600),
        slots: 4,
        ..Rules::DEFAULT
    };
}

/// Stays in the transaction of its job where it is a victim's.
#[derive(Clone, Serialize, Deserialize)]
struct Open {
    number: i64,
}

impl Job for Open {
    const KIND: &'static str = "test.open";
    type Output = ();
    const RULES: Rules = Rules {
        hang_after: Duration::from_secs(600),
        ..Rules::DEFAULT
    };
}

/// Writes, takes a while, and says that it ends; its end is written by the worker.
#[derive(Clone, Serialize, Deserialize)]
struct Plain {
    number: i64,
}

impl Job for Plain {
    const KIND: &'static str = "test.plain";
    type Output = ();
}

/// Ends its process.
#[derive(Clone, Serialize, Deserialize)]
struct Poison;

impl Job for Poison {
    const KIND: &'static str = "test.poison";
    type Output = ();
}

fn handlers(db: &ModuleDb, is_victim: bool) -> Vec<JobHandler> {
    let given = db.clone();
    let slow = async move |run: Run<Slow>| {
        println!("began {} {}", run.number, run.attempt());
        match run.number {
            // Until it notices that it was frozen.
            -1 if is_victim => {
                let mut last = Instant::now();
                while last.elapsed() < Duration::from_secs(5) {
                    last = Instant::now();
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            -5 => tokio::time::sleep(Duration::from_secs(1)).await,
            _ => {}
        }
        let scope = run.scope().ok_or(JobError::fail("tenant", "none"))?;
        let work = async move |tx: &mut TenantTx| {
            note_done(tx, run.number, "slow").await?;
            run.complete(tx, &()).await
        };
        let done = given.tenant(&scope).transaction("slow", work).await;
        done.map_err(JobError::from)
    };
    let poison = async |_: Run<Poison>| {
        crate::support::process::signal(std::process::id(), "KILL");
        std::future::pending::<()>().await;
        Ok::<_, JobError>(())
    };
    let open = async move |tx: &mut TenantTx, run: Arc<Run<Open>>| {
        note_done(tx, run.number, "open").await?;
        println!("began {} {}", run.number, run.attempt());
        if is_victim {
            std::future::pending::<()>().await;
        }
        Ok::<_, DbError>(())
    };
    let given = db.clone();
    let plain = async move |run: Run<Plain>| {
        let scope = run.scope().ok_or(JobError::fail("tenant", "none"))?;
        let number = run.number;
        let note = async move |tx: &mut TenantTx| note_done(tx, number, "plain").await;
        let noted = given.tenant(&scope).transaction("plain", note).await;
        noted.map_err(JobError::from)?;
        println!("began {number} {}", run.attempt());
        if is_victim {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        println!("ends {number}");
        Ok::<_, JobError>(())
    };
    vec![
        noting(db),
        JobHandler::new(plain),
        JobHandler::new(slow),
        JobHandler::new(poison),
        JobHandler::in_transaction(db, open),
    ]
}

/// Not its own test: the process that is killed.
#[actix::test]
async fn victim() {
    let Some((first, target)) = victim::role() else {
        return;
    };
    let rig = Rig::start(&target, |db| handlers(db, true)).await;
    println!("runs jobs");
    if first < 0 {
        std::future::pending::<()>().await;
    }
    for number in first.. {
        let work = async move |tx: &mut TenantTx| {
            note_done(tx, -number, "writer").await?;
            tx.enqueue(&Work { number }).await?;
            Ok::<_, DbError>(())
        };
        let written = rig.db.tenant(&scope()).transaction("write", work).await;
        if written.is_ok() {
            println!("acknowledged {number}");
        }
        // Not so fast that ten thousand wait.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn until_line(process: &Process, text: &str) {
    eventually(text, || async {
        let lines = process.lines();
        lines.iter().any(|line| line.contains(text)).then_some(())
    })
    .await;
}

async fn killed(database: &str) {
    let (rounds, kept) = kill_again_and_again(database, 4, async |_| {}, |_, _| {}).await;
    let rig = Rig::start(&target(database), |db| handlers(db, false)).await;
    let began = Instant::now();
    loop {
        let left = unfinished(&rig).await;
        if left == 0 {
            break;
        }
        assert!(
            began.elapsed() < Duration::from_secs(240),
            "{left} jobs are left"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let all = rig.numbers().await;
    let mut written: Vec<_> = all.iter().filter(|it| **it < 0).map(|it| -it).collect();
    written.sort_unstable();
    let done: Vec<_> = all.iter().copied().filter(|it| *it > 0).collect();
    let lost = kept.iter().filter(|it| written.binary_search(it).is_err());
    assert_eq!(lost.count(), 0, "acknowledged rows are lost");
    assert!(
        done == written,
        "{} jobs done for {} rows",
        done.len(),
        written.len()
    );
    println!(
        "{rounds} processes killed, {} rows with their jobs done once",
        written.len()
    );
    rig.supervisor.halt().await;
}

/// How many jobs are not completed. Those that were parked by many kills are sent on, as an operator does.
async fn unfinished(rig: &Rig) -> usize {
    let mut left = 0;
    for &state in JobState::ALL {
        if matches!(state, JobState::Completed | JobState::Cancelled) {
            continue;
        }
        let filter = JobFilter {
            state: Some(state),
            ..JobFilter::default()
        };
        let read = async move |c: &mut Connection| list_all(c, &filter, None, 200).await;
        let jobs = rig.system().read("list jobs", read).await.unwrap();
        assert!(state != JobState::Failed || jobs.is_empty(), "{jobs:?}");
        left += jobs.len();
        for job in jobs.into_iter().filter(|_| state == JobState::Parked) {
            let retry =
                async move |tx: &mut dotmac_db::Tx| dotmac_durable::jobs::retry(tx, job.id).await;
            rig.system().transaction("retry", retry).await.unwrap();
        }
    }
    left
}

#[actix::test]
async fn no_job_is_lost_or_done_twice_when_processes_are_killed_on_postgresql() {
    let server = Postgres::start().await;
    killed(&server.port.to_string()).await;
}

#[actix::test]
async fn no_job_is_lost_or_done_twice_when_processes_are_killed_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    killed(directory.path().to_str().unwrap()).await;
}

fn database(target: &Target) -> String {
    match target {
        Target::Postgres(it) => it.port.to_string(),
        Target::Sqlite(file) => file.path().parent().unwrap().to_str().unwrap().to_owned(),
    }
}

/// The jobs of a process that is gone, or frozen, run elsewhere; when it goes on it changes nothing. How long it took until
/// they were done.
pub async fn taken_over(target: &Target, signal: &str) -> Duration {
    let rig = Rig::start(target, |_| Vec::new()).await;
    let mut victim = start(&database(target), -1);
    until_line(&victim, "runs jobs").await;
    let id = rig.enqueue(Slow { number: -1 }).await;
    until_line(&victim, "began -1 1").await;
    rig.supervisor.halt().await;
    let other = Rig::start(target, |db| handlers(db, false)).await;
    // Past the time that a new instance gives others to show that they are alive.
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(
        other.find(id).await.unwrap().state,
        JobState::Running,
        "it was alive"
    );
    victim.signal(signal);
    let began = Instant::now();
    let job = other.until_state(id, JobState::Completed).await;
    let took = began.elapsed();
    assert_eq!((job.attempt, job.crashes), (1, 0));
    assert_eq!(job.last_error.unwrap().code, "crashed");
    if signal == "STOP" {
        victim.signal("CONT");
        eventually("its next incarnation", || async {
            let count = async |c: &mut Connection| {
                on!(c, |c| job_worker::table.count().get_result::<i64>(c).await)
            };
            let count = other.system().read("count", count).await.ok()?;
            (count == 2).then_some(())
        })
        .await;
    }
    victim.kill();
    let after = other.find(id).await.unwrap();
    assert_eq!((after.state, after.attempt), (JobState::Completed, 1));
    assert_eq!(other.numbers().await, [-1]);
    other.supervisor.halt().await;
    took
}

/// A handler is over, and its process is killed before the end of its job is committed: the job runs again.
#[actix::test]
async fn a_job_whose_end_was_not_committed_when_its_process_was_killed_runs_again() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        let mut victim = start(&database(&target), -1);
        until_line(&victim, "runs jobs").await;
        let id = rig.enqueue(Plain { number: 5 }).await;
        until_line(&victim, "began 5 1").await;
        // Its row cannot be written until this is over.
        let (release, released) = tokio::sync::oneshot::channel::<()>();
        let hold = async move |tx: &mut dotmac_db::Tx| {
            let held = diesel::sql_query("UPDATE job SET priority = priority");
            on!(tx, |c| held.execute(c).await)?;
            released.await.ok();
            Ok::<_, DbError>(())
        };
        let holding = actix::spawn(rig.system().transaction("hold", hold));
        until_line(&victim, "ends 5").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        victim.kill();
        release.send(()).unwrap();
        holding.await.unwrap().unwrap();
        assert_eq!(rig.find(id).await.unwrap().state, JobState::Running);
        let other = Rig::start(&target, |db| handlers(db, false)).await;
        let job = other.until_state(id, JobState::Completed).await;
        assert_eq!(
            (job.attempt, job.last_error.unwrap().code),
            (1, "crashed".to_owned())
        );
        assert_eq!(other.numbers().await, [5, 5]);
        for rig in [rig, other] {
            rig.supervisor.halt().await;
        }
    })
    .await;
}

#[actix::test]
async fn jobs_of_a_process_that_is_frozen_run_elsewhere_and_it_changes_nothing_afterwards() {
    let server = Postgres::start().await;
    let took = taken_over(&postgres(server.port), "STOP").await;
    println!("a frozen process: its jobs done elsewhere after {took:?}");
}

/// The locks of a transaction that is open in a frozen process do not keep its job from others.
#[actix::test]
async fn a_job_of_a_process_that_is_frozen_in_its_transaction_runs_elsewhere() {
    let server = Postgres::start().await;
    let target = postgres(server.port);
    let rig = Rig::start(&target, |_| Vec::new()).await;
    let mut victim = start(&database(&target), -1);
    until_line(&victim, "runs jobs").await;
    let id = rig.enqueue(Open { number: 9 }).await;
    until_line(&victim, "began 9 1").await;
    victim.signal("STOP");
    let other = Rig::start(&target, |db| handlers(db, false)).await;
    let job = other.until_state(id, JobState::Completed).await;
    assert_eq!(job.last_error.unwrap().code, "crashed");
    victim.kill();
    assert_eq!(other.numbers().await, [9]);
    for rig in [rig, other] {
        rig.supervisor.halt().await;
    }
}

/// The job ends three processes, and with them a parallel job; that one goes on, and the job does not.
#[actix::test]
async fn a_job_that_takes_its_process_down_is_parked_and_others_go_on() {
    let server = Postgres::start().await;
    let target = postgres(server.port);
    let rig = Rig::start(&target, |_| Vec::new()).await;
    let harmless = rig.enqueue(Slow { number: -5 }).await;
    let poison = rig.enqueue(Poison).await;
    for crash in 1..=3 {
        let mut victim = start(&database(&target), -1);
        eventually("the process to end", || {
            std::future::ready(victim.try_exit())
        })
        .await;
        let job = rig.find(poison).await.unwrap();
        assert_eq!((job.state, job.crashes), (JobState::Running, crash - 1));
    }
    let other = Rig::start(&target, |db| handlers(db, false)).await;
    let job = other.until_state(poison, JobState::Parked).await;
    assert_eq!((job.crashes, job.attempt), (3, 0), "{job:?}");
    other.until_state(harmless, JobState::Completed).await;
    for rig in [rig, other] {
        rig.supervisor.halt().await;
    }
}
