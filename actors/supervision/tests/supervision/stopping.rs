//! The end, in good order and within its time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Instant,
};

use actix::prelude::*;
use dotmac_supervision::{
    CallError, ChildSpec, Lifeline, NotReady, Policy, Published, Readiness, Reason, Serving, State,
    SupervisionTree,
};

use crate::support::*;

#[test]
fn a_stuck_child_holds_up_the_stop_only_for_its_time() {
    run(async {
        let mut tree = SupervisionTree::new(impatient()).unwrap();
        let calm = ChildSpec::new("calm", Probe::new);
        let calm = tree.add(calm).unwrap();
        let patient = Policy {
            hang_after: ms(20_000),
            ..impatient()
        };
        let stuck = ChildSpec::new("stuck", Probe::new)
            .policy(patient)
            .needs(calm.always());
        let stuck = tree.add(stuck).unwrap();
        let supervisor = tree.start();
        ready(&supervisor).await;
        let (release, held) = std::sync::mpsc::channel::<()>();
        let blocked = tokio::spawn(async move {
            act(&stuck, move |_, _| {
                held.recv().ok();
            })
            .await
        });
        tokio::time::sleep(ms(100)).await;
        let started = Instant::now();
        let report = supervisor.halt().await;
        assert!(started.elapsed() < ms(10_000));
        let blocked = blocked.await.unwrap();
        assert!(
            matches!(blocked, Err(CallError::Lost { .. })),
            "{blocked:?}"
        );
        let seen: Vec<_> = report
            .children
            .iter()
            .map(|child| (child.name, child.abandoned))
            .collect();
        assert_eq!(seen, [("stuck", true), ("calm", false)]);
        assert!(report.children[0].took >= ms(100));
        let board = supervisor.board();
        assert_eq!(board.leaked_threads, 1);
        assert!(
            board
                .components
                .iter()
                .all(|component| component.state == State::Stopped)
        );
        assert_eq!(
            supervisor.halt().await,
            report,
            "asked again, the same answer"
        );
        release.send(()).unwrap();
    });
}

#[test]
fn a_child_that_a_fault_is_ending_is_in_the_report() {
    run(async {
        let policy = Policy {
            stop_timeout: ms(600),
            ..impatient()
        };
        let (supervisor, probe) = lone(policy, Probe::new);
        ready(&supervisor).await;
        let (release, held) = std::sync::mpsc::channel::<()>();
        act(&probe, move |_, _| {
            held.recv().ok();
        })
        .await
        .ok();
        let report = supervisor.halt().await;
        let seen: Vec<_> = report
            .children
            .iter()
            .map(|child| (child.name, child.abandoned))
            .collect();
        assert_eq!(seen, [("probe", true)]);
        release.send(()).unwrap();
    });
}

#[test]
fn calls_under_way_are_answered_during_an_orderly_stop_and_new_ones_refused() {
    run(async {
        let slot = Published::new();
        let offered = slot.clone();
        let spoke = Arc::new(AtomicBool::new(false));
        let said = Arc::clone(&spoke);
        let factory = move |life: Lifeline| {
            let (offered, said) = (offered.clone(), Arc::clone(&said));
            Probe::starting(life, {
                let offered = offered.clone();
                move |probe, _| {
                    probe.life.publish(&offered, Arc::new(1));
                    probe.life.ready(Serving::default());
                }
            })
            .on_shutdown(move |probe, context| {
                assert!(probe.life.is_current(), "it may still finish its work");
                // A late report by a timer of the actor admits no caller again.
                probe.life.publish(&offered, Arc::new(2));
                probe.life.ready(Serving::default().version(9));
                said.store(true, SeqCst);
                context.run_later(ms(600), |_, context| context.stop());
            })
        };
        let mut tree = SupervisionTree::new(policy()).unwrap();
        let spec = ChildSpec::new("probe", factory).required().publishes(&slot);
        let probe = tree.add(spec).unwrap();
        let supervisor = tree.start();
        ready(&supervisor).await;
        let caller = probe.clone();
        let under_way = tokio::spawn(async move {
            caller
                .call(Later(Box::pin(tokio::time::sleep(ms(300)))))
                .await
        });
        until("the call under way", || probe.vitals().calls_in_flight == 1).await;
        tokio::time::sleep(ms(50)).await;
        let halting = supervisor.clone();
        let halt = actix_rt::spawn(async move { halting.halt().await });
        until("the request to stop", || spoke.load(SeqCst)).await;
        assert!(!probe.is_serving());
        assert_eq!(slot.get(), None);
        let refused = probe.call(Ping).await;
        assert!(
            matches!(refused, Err(CallError::Down { .. })),
            "{refused:?}"
        );
        assert_eq!(under_way.await.unwrap(), Ok(()));
        let report = halt.await.unwrap();
        assert!(report.children[0].took >= ms(250) && !report.children[0].abandoned);
    });
}

#[test]
fn a_drain_turns_readiness_off_and_nothing_else() {
    run(async {
        let (supervisor, probe) = lone(policy(), Probe::new);
        ready(&supervisor).await;
        supervisor.drain();
        let board = board(&supervisor, "draining", |board| !board.readiness.serves()).await;
        assert_eq!(board.readiness, Readiness::NotReady(NotReady::Draining));
        assert_eq!(board.component("probe").unwrap().state, State::Ready);
        assert_eq!(probe.call(Ping).await, Ok(1));
        act(&probe, |_, _| panic!("on purpose")).await.ok();
        in_life(&supervisor, "probe", 2).await;
        assert_eq!(probe.call(Ping).await, Ok(2), "restarts go on");
        assert_eq!(
            supervisor.board().readiness,
            Readiness::NotReady(NotReady::Draining)
        );
        supervisor.halt().await;
    });
}

#[test]
fn a_halt_during_the_start_and_during_a_backoff_ends() {
    run(async {
        let slow = Policy {
            backoff_max: ms(3000),
            ..policy()
        };
        let mut tree = SupervisionTree::new(slow).unwrap();
        tree.add(ChildSpec::new("silent", Probe::silent)).unwrap();
        let away = ChildSpec::new("away", |life| {
            Probe::starting(life, |probe, _| probe.life.fail(Reason::UNREACHABLE, "no"))
        });
        let away = tree.add(away).unwrap();
        tree.add(ChildSpec::new("waiting", Probe::new).needs(away.always()))
            .unwrap();
        let supervisor = tree.start();
        board(&supervisor, "the fault", |board| {
            board.component("away").unwrap().reason == Some(Reason::UNREACHABLE)
        })
        .await;
        let report = supervisor.halt().await;
        assert!(report.children.iter().any(|child| child.name == "silent"));
        let board = supervisor.board();
        assert!(
            board
                .components
                .iter()
                .all(|component| component.state == State::Stopped)
        );
    });
}

#[test]
fn a_restart_on_request_does_not_wait_for_the_backoff() {
    run(async {
        let slow = Policy {
            backoff_min: ms(600_000),
            backoff_max: ms(600_000),
            period: ms(3_600_000),
            ..policy()
        };
        let (supervisor, probe) = lone(slow, Probe::new);
        ready(&supervisor).await;
        act(&probe, |_, _| panic!("on purpose")).await.ok();
        board(&supervisor, "the fault", |board| !board.readiness.serves()).await;
        // Asked again and again: the first may come while the thread is still on its way out.
        until("the restart", || {
            supervisor.restart("probe").unwrap();
            probe.is_serving()
        })
        .await;
        supervisor.halt().await;
    });
}
