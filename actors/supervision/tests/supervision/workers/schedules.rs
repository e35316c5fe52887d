//! When workers run, and how they stop.

use std::{
    convert::Infallible,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, Instant, SystemTime},
};

use dotmac_supervision::{
    Cause, Reason, Restart, Schedule, State, SupervisionTree, TreeError, WorkerContext, WorkerSpec,
};

use super::*;
use crate::support::*;

#[test]
fn a_periodic_worker_runs_at_once_and_then_after_each_interval() {
    run(async {
        let began = Instant::now();
        let diary = Diary::default();
        let book = diary.clone();
        let spec = WorkerSpec::new("tick", Schedule::Every(ms(200)), move |_| {
            let book = book.clone();
            async move {
                book.note(format!("{:05}", began.elapsed().as_millis()));
                // The interval counts from the end of a run.
                tokio::time::sleep(ms(100)).await;
                Ok::<_, Infallible>(())
            }
        });
        let (supervisor, worker) = lone_worker(spec);
        ready(&supervisor).await;
        until("three runs", || runs(&worker) >= 3).await;
        let times: Vec<u64> = diary
            .entries()
            .iter()
            .map(|at| at.parse().unwrap())
            .collect();
        for pair in times.windows(2) {
            assert!(pair[1] - pair[0] >= 299, "{times:?}");
        }
        let vitals = worker.vitals().worker.unwrap();
        assert!(vitals.last_success.unwrap() <= SystemTime::now());
        assert_eq!(generation(&supervisor, "tick"), 1, "all in one life");
        assert_eq!(all_restarts(&worker), 0);
        supervisor.halt().await;
    });
}

#[test]
fn a_run_that_is_asked_for_does_not_wait_for_the_interval() {
    run(async {
        let (release, held) = (Arc::new(tokio::sync::Semaphore::new(0)), AtomicU32::new(0));
        let gate = Arc::clone(&release);
        let spec = WorkerSpec::new("hourly", HOURLY, move |context: WorkerContext| {
            let (gate, first) = (Arc::clone(&gate), held.fetch_add(1, SeqCst) == 0);
            async move {
                assert_eq!(context.was_asked_for(), !first);
                if !first {
                    gate.acquire().await.unwrap().forget();
                }
                Ok::<_, Infallible>(())
            }
        });
        let (supervisor, worker) = lone_worker(spec);
        until("the first run", || runs(&worker) == 1).await;
        worker.run_now();
        let running = || worker.vitals().worker.unwrap().running_for.is_some();
        until("the second to begin", running).await;
        // However often it is asked during a run, that is once more.
        (0..5).for_each(|_| worker.run_now());
        release.add_permits(10);
        until("the third run", || runs(&worker) == 3).await;
        tokio::time::sleep(ms(100)).await;
        assert_eq!(runs(&worker), 3);
        supervisor.halt().await;
    });
}

#[test]
fn a_continuous_worker_is_ready_and_stops_when_it_is_asked_to() {
    run(async {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let spec = WorkerSpec::new(
            "relay",
            Schedule::Continuous,
            move |context: WorkerContext| {
                let seen = Arc::clone(&seen);
                async move {
                    context.stopping().await;
                    assert!(context.is_stopping());
                    tokio::time::sleep(ms(50)).await;
                    seen.store(true, SeqCst);
                    Ok::<_, Infallible>(())
                }
            },
        );
        let (supervisor, worker) = lone_worker(spec);
        ready(&supervisor).await;
        let report = supervisor.halt().await;
        assert!(ended.load(SeqCst), "it had its time");
        assert_eq!(report.children.len(), 1);
        assert_eq!(
            (report.children[0].name, report.children[0].abandoned),
            ("relay", false)
        );
        assert_eq!(all_restarts(&worker), 0);
    });
}

#[test]
fn a_worker_that_does_not_stop_in_time_is_dropped_at_its_await() {
    run(async {
        struct Flag(Arc<AtomicBool>);
        impl Drop for Flag {
            fn drop(&mut self) {
                self.0.store(true, SeqCst);
            }
        }
        let dropped = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&dropped);
        let spec = WorkerSpec::new("stubborn", Schedule::Continuous, move |_| {
            let flag = Flag(Arc::clone(&seen));
            async move {
                let _flag = flag;
                pending::<Result<(), Infallible>>().await
            }
        });
        let mut tree = SupervisionTree::new(impatient()).unwrap();
        tree.add_worker(spec).unwrap();
        let supervisor = tree.start();
        ready(&supervisor).await;
        let report = supervisor.halt().await;
        assert!(!report.children[0].abandoned, "no thread was lost with it");
        assert!(dropped.load(SeqCst));
        assert_eq!(supervisor.board().leaked_threads, 0);
    });
}

#[test]
fn a_continuous_worker_that_returns_is_restarted_unless_it_is_transient() {
    run(async {
        let mut tree = SupervisionTree::new(policy()).unwrap();
        let returns = |context: WorkerContext| async move {
            if context.lifeline().generation() > 1 {
                context.stopping().await;
            }
            Ok::<_, Infallible>(())
        };
        let spec = WorkerSpec::new("permanent", Schedule::Continuous, returns);
        let permanent = tree.add_worker(spec).unwrap();
        let once = WorkerSpec::new("once", Schedule::Continuous, returns);
        let once = tree.add_worker(once.restart(Restart::Transient)).unwrap();
        let supervisor = tree.start();
        in_life(&supervisor, "permanent", 2).await;
        assert_eq!(count(&permanent, Cause::Stop), 1);
        let board = board(&supervisor, "finished", is("once", State::Stopped)).await;
        assert_eq!(
            board.component("once").unwrap().reason,
            Some(Reason::FINISHED)
        );
        assert_eq!(all_restarts(&once), 0);
        ready(&supervisor).await;
        supervisor.halt().await;
    });
}

#[test]
fn times_that_nothing_can_be_planned_with_are_refused() {
    let fine = |_: WorkerContext| async { Ok::<_, Infallible>(()) };
    let every = |interval| WorkerSpec::new("bad", Schedule::Every(interval), fine);
    let cases = [
        (every(Duration::ZERO), "interval", Duration::ZERO),
        (every(Duration::MAX), "interval", Duration::MAX),
        (
            every(ms(5)).run_limit(Duration::ZERO),
            "run_limit",
            Duration::ZERO,
        ),
        (
            every(ms(5)).progress_within(Duration::ZERO),
            "progress_within",
            Duration::ZERO,
        ),
    ];
    for (spec, expected, value) in cases {
        let mut tree = SupervisionTree::new(policy()).unwrap();
        let refused = tree.add_worker(spec).unwrap_err();
        let TreeError::WorkerTime {
            worker,
            field,
            given,
        } = refused
        else {
            panic!("{refused}");
        };
        assert_eq!((worker, field, given), ("bad", expected, value));
    }
}
