//! What a worker says of itself, and who follows it.

use std::{convert::Infallible, sync::Arc};

use dotmac_supervision::{
    Board, Cause, ChildSpec, Progress, Published, Reason, Schedule, Serving, State,
    SupervisionTree, WorkerContext, WorkerSpec,
};

use super::*;
use crate::support::*;

#[test]
fn the_time_of_a_pause_counts_towards_no_limit() {
    run(async {
        let spec = WorkerSpec::new("patient", HOURLY, |context: WorkerContext| async move {
            context.lifeline().ready(Serving::from("standby"));
            context.paused(tokio::time::sleep(ms(900))).await;
            context.lifeline().ready(Serving::from("leader"));
            context.beat();
            tokio::time::sleep(ms(50)).await;
            Ok::<_, Infallible>(())
        });
        let spec = spec.run_limit(ms(400)).progress_within(ms(300));
        let (supervisor, worker) = lone_worker(spec);
        let source = |source: &'static str| {
            move |board: &Board| board.component("patient").unwrap().source == Some(source)
        };
        board(&supervisor, "the standby", source("standby")).await;
        board(&supervisor, "the leader", source("leader")).await;
        until("its run", || runs(&worker) == 1).await;
        assert_eq!(all_restarts(&worker), 0);
        // What it says itself is not taken back by the end of a run.
        assert!(source("leader")(&supervisor.board()));
        supervisor.halt().await;
    });
}

#[test]
fn the_first_word_of_a_worker_may_be_its_own() {
    run(async {
        let spec = WorkerSpec::new(
            "modest",
            Schedule::Continuous,
            |context: WorkerContext| async move {
                context.lifeline().unavailable(Reason::UNREACHABLE);
                tokio::time::sleep(ms(100)).await;
                context
                    .lifeline()
                    .degraded(Reason::UNREACHABLE, Serving::default());
                context.stopping().await;
                Ok::<_, Infallible>(())
            },
        );
        let mut tree = SupervisionTree::new(policy()).unwrap();
        let mut events = tree.events();
        tree.add_worker(spec).unwrap();
        let supervisor = tree.start();
        board(&supervisor, "degraded", is("modest", State::Degraded)).await;
        let mut states = Vec::new();
        while let Ok(event) = events.try_recv() {
            states.push(event.state);
        }
        assert!(!states.contains(&State::Ready), "{states:?}");
        supervisor.halt().await;
    });
}

#[test]
fn workers_and_actors_need_and_follow_each_other_and_publish() {
    run(async {
        let slot = Published::<u64>::new();
        let offered = slot.clone();
        let mut tree = SupervisionTree::new(policy()).unwrap();
        let source = tree.add(ChildSpec::new("source", Probe::new)).unwrap();
        let spec = WorkerSpec::new(
            "worker",
            Schedule::Continuous,
            move |context: WorkerContext| {
                let offered = offered.clone();
                async move {
                    let life = context.lifeline();
                    life.publish(&offered, Arc::new(life.generation()));
                    context.stopping().await;
                    Ok::<_, Infallible>(())
                }
            },
        );
        let spec = spec.publishes(&slot).needs(source.always());
        let worker = tree.add_worker(spec).unwrap();
        let follower = ChildSpec::new("follower", Probe::new).needs(worker.always());
        let follower = tree.add(follower).unwrap();
        let supervisor = tree.start();
        ready(&supervisor).await;
        assert_eq!(slot.get().as_deref(), Some(&1));
        act(&source, |_, _| panic!("on purpose")).await.ok();
        in_life(&supervisor, "follower", 2).await;
        assert_eq!(slot.get().as_deref(), Some(&2));
        assert_eq!(
            (
                count(&worker, Cause::Dependency),
                count(&follower, Cause::Dependency)
            ),
            (1, 1)
        );
        let report = supervisor.halt().await;
        let order: Vec<_> = report.children.iter().map(|child| child.name).collect();
        assert_eq!(order, ["follower", "worker", "source"]);
        assert!(slot.get().is_none());
    });
}

#[test]
fn how_far_a_run_has_come_is_shown_while_it_runs() {
    run(async {
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        let enter = Arc::clone(&gate);
        let spec = WorkerSpec::new("counter", HOURLY, move |context: WorkerContext| {
            let enter = Arc::clone(&enter);
            async move {
                context.progress(3, None);
                enter.acquire().await.unwrap().forget();
                Ok::<_, Infallible>(())
            }
        });
        let (supervisor, worker) = lone_worker(spec);
        let expected = Progress {
            done: 3,
            total: None,
        };
        let vitals = || worker.vitals().worker.unwrap();
        until("its progress", || vitals().progress == Some(expected)).await;
        assert!(vitals().running_for.is_some());
        gate.add_permits(1);
        until("its end", || vitals().runs == 1).await;
        assert_eq!((vitals().progress, vitals().running_for), (None, None));
        supervisor.halt().await;
    });
}
