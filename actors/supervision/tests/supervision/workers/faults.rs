//! Each way in which a worker can fail.

use std::{convert::Infallible, future::pending, io, sync::Arc, time::Instant};

use dotmac_supervision::{
    Board, Cause, Escalation, Exhausted, Reason, Schedule, State, SupervisionTree, WorkerContext,
    WorkerSpec,
};

use super::*;
use crate::support::*;

#[test]
fn an_error_of_a_run_is_logged_and_retried() {
    run(async {
        let spec = WorkerSpec::new("unlucky", HOURLY, |context: WorkerContext| async move {
            match context.lifeline().generation() {
                1 | 2 => Err(io::Error::other("no such shelf")),
                _ => Ok(()),
            }
        });
        let (supervisor, worker) = lone_worker(spec);
        in_life(&supervisor, "unlucky", 3).await;
        assert_eq!(
            (count(&worker, Cause::RunFailed), all_restarts(&worker)),
            (2, 2)
        );
        assert!(logged(&[
            "WARN",
            "restarting worker `unlucky`: its run returned an error: no such shelf",
            "cause=\"run_failed\"",
        ]));
        supervisor.halt().await;
    });
}

#[test]
fn a_periodic_worker_is_ready_again_with_its_first_good_run_and_not_before() {
    run(async {
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        let enter = Arc::clone(&gate);
        let spec = WorkerSpec::new("shaky", HOURLY, move |context: WorkerContext| {
            let enter = Arc::clone(&enter);
            async move {
                if context.lifeline().generation() == 1 {
                    return Err(io::Error::other("no such shelf"));
                }
                enter.acquire().await.unwrap().forget();
                Ok(())
            }
        });
        let (supervisor, worker) = lone_worker(spec);
        let running = || {
            let vitals = worker.vitals().worker.unwrap();
            vitals.running_for.is_some() && generation(&supervisor, "shaky") == 2
        };
        until("its second try", running).await;
        let still_away = |board: &Board| {
            let it = board.component("shaky").unwrap();
            !it.state.serves() && it.reason == Some(Reason::ERROR)
        };
        board(&supervisor, "no word of readiness", still_away).await;
        tokio::time::sleep(ms(50)).await;
        assert!(still_away(&supervisor.board()));
        gate.add_permits(1);
        ready(&supervisor).await;
        supervisor.halt().await;
    });
}

#[test]
fn a_panic_in_a_run_is_survived_and_charged() {
    run(async {
        let spec = WorkerSpec::new("brittle", HOURLY, |context: WorkerContext| async move {
            tokio::task::yield_now().await;
            assert!(context.lifeline().generation() > 1, "on purpose");
            Ok::<_, Infallible>(())
        });
        let (supervisor, worker) = lone_worker(spec);
        in_life(&supervisor, "brittle", 2).await;
        assert_eq!(
            (count(&worker, Cause::Panic), all_restarts(&worker)),
            (1, 1)
        );
        assert!(logged(&[
            "ERROR",
            "actor.name=\"brittle\"",
            "panic.message=\"on purpose\""
        ]));
        assert!(logged(&[
            "WARN",
            "restarting worker `brittle`: panicked: on purpose at"
        ]));
        supervisor.halt().await;
    });
}

#[test]
fn a_worker_that_uses_up_its_restarts_fails_alone_or_escalates_as_it_says() {
    run(async {
        for exhausted in [Exhausted::Fail, Exhausted::Escalate] {
            let mut tree = SupervisionTree::new(policy()).unwrap();
            let broken = |_| async { Err::<(), _>("the shelf is broken") };
            let spec = WorkerSpec::new("broken", Schedule::Continuous, broken);
            tree.add_worker(spec.when_exhausted(exhausted)).unwrap();
            let fine = |_| async { Ok::<_, Infallible>(()) };
            tree.add_worker(WorkerSpec::new("fine", OFTEN, fine))
                .unwrap();
            let supervisor = tree.start();
            let failed = is("broken", State::Failed);
            let board = board(&supervisor, "failed", failed).await;
            let component = board.component("broken").unwrap();
            assert_eq!(
                (component.generation, component.reason),
                (6, Some(Reason::ERROR))
            );
            let escalated = tokio::time::timeout(ms(100), supervisor.escalated()).await;
            let expected = Escalation::Intensity {
                child: "broken",
                reason: Reason::ERROR,
                intensity: policy().intensity,
                period: policy().period,
            };
            match exhausted {
                Exhausted::Fail => assert!(escalated.is_err(), "{escalated:?}"),
                Exhausted::Escalate => assert_eq!(escalated.unwrap(), expected),
            }
            assert_eq!(
                supervisor.board().component("fine").unwrap().state,
                State::Ready
            );
            supervisor.halt().await;
        }
    });
}

#[test]
fn a_periodic_worker_whose_runs_fail_is_tried_again_for_as_long_as_it_takes() {
    run(async {
        let most = policy().intensity;
        let failing = move |context: WorkerContext| async move {
            match context.lifeline().generation() {
                life if life <= u64::from(3 * most) => Err("the feed is away"),
                _ => Ok(()),
            }
        };
        let (supervisor, worker) = lone_worker(WorkerSpec::new("reader", HOURLY, failing));
        ready(&supervisor).await;
        assert_eq!(count(&worker, Cause::RunFailed), u64::from(3 * most));
        supervisor.halt().await;
    });
}

#[test]
fn what_lies_upstream_is_no_fault_of_a_worker() {
    const AWAY: Reason = Reason::new("shop_closed");
    run(async {
        let spec = WorkerSpec::new("buyer", HOURLY, |context: WorkerContext| async move {
            match context.lifeline().generation() {
                1..=8 => Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
                _ => Ok(()),
            }
        });
        let spec = spec.upstream(|error| {
            let error = error.downcast_ref::<io::Error>()?;
            (error.kind() == io::ErrorKind::ConnectionRefused).then_some(AWAY)
        });
        let (supervisor, worker) = lone_worker(spec);
        let away = |board: &Board| board.component("buyer").unwrap().reason == Some(AWAY);
        board(&supervisor, "its own reason", away).await;
        in_life(&supervisor, "buyer", 9).await;
        assert_eq!(
            (count(&worker, Cause::Upstream), all_restarts(&worker)),
            (8, 8)
        );
        supervisor.halt().await;
    });
}

#[test]
fn a_run_beyond_its_limit_is_a_hang_and_costs_no_thread() {
    run(async {
        let spec = WorkerSpec::new("endless", HOURLY, |context: WorkerContext| async move {
            if context.lifeline().generation() == 1 {
                pending::<()>().await;
            }
            Ok::<_, Infallible>(())
        });
        let (supervisor, worker) = lone_worker(spec.run_limit(ms(200)));
        in_life(&supervisor, "endless", 2).await;
        assert_eq!((count(&worker, Cause::Hang), all_restarts(&worker)), (1, 1));
        assert!(logged(&["`endless`", "its run exceeds its limit of 200ms"]));
        assert_eq!(supervisor.board().leaked_threads, 0);
        supervisor.halt().await;
    });
}

#[test]
fn a_run_that_shows_no_progress_in_time_is_a_hang() {
    run(async {
        let spec = WorkerSpec::new(
            "stuck",
            Schedule::Continuous,
            |context: WorkerContext| async move {
                for done in 1..=8 {
                    context.progress(done, Some(8));
                    tokio::time::sleep(ms(100)).await;
                }
                if context.lifeline().generation() == 1 {
                    pending::<()>().await;
                }
                loop {
                    context.beat();
                    tokio::time::sleep(ms(50)).await;
                }
                #[expect(unreachable_code, reason = "gives the loop its type")]
                Ok::<_, Infallible>(())
            },
        );
        let began = Instant::now();
        let (supervisor, worker) = lone_worker(spec.progress_within(ms(500)));
        let halfway = || {
            let progress = worker.vitals().worker.unwrap().progress;
            progress.is_some_and(|it| it.done >= 4 && it.total == Some(8))
        };
        until("progress to be seen", halfway).await;
        in_life(&supervisor, "stuck", 2).await;
        assert!(began.elapsed() >= ms(1200), "progress counts as such");
        assert_eq!((count(&worker, Cause::Hang), all_restarts(&worker)), (1, 1));
        assert!(logged(&["`stuck`", "its run has made no progress for"]));
        supervisor.halt().await;
    });
}
