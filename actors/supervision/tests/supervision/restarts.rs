//! Which children get another life, and what happens to the rest when one gets none.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use dotmac_supervision::{
    ActorHandle, Cause, ChildSpec, Exhausted, Lifeline, Need, NotReady, Policy, Published,
    Readiness, Reason, Restart, Serving, State, SupervisionTree, SupervisorHandle,
};

use crate::support::*;

/// A tree of one optional probe under `rule`, and a required one.
fn tree_with(rule: Restart) -> (SupervisorHandle, ActorHandle<Probe>) {
    let mut tree = SupervisionTree::new(policy()).unwrap();
    let spec = ChildSpec::new("probe", Probe::new).restart(rule);
    let probe = tree.add(spec).unwrap();
    let neighbour = ChildSpec::new("neighbour", Probe::new).required();
    tree.add(neighbour).unwrap();
    (tree.start(), probe)
}

async fn in_state(supervisor: &SupervisorHandle, name: &str, state: State) -> Option<Reason> {
    let what = format!("{name} {state}");
    let board = board(supervisor, &what, |board| {
        board.component(name).unwrap().state == state
    })
    .await;
    board.component(name).unwrap().reason
}

#[test]
fn a_transient_child_that_stops_by_itself_has_finished() {
    run(async {
        let (supervisor, probe) = tree_with(Restart::Transient);
        ready(&supervisor).await;
        act(&probe, |_, context| context.stop()).await.ok();
        let reason = in_state(&supervisor, "probe", State::Stopped).await;
        assert_eq!(reason, Some(Reason::FINISHED));
        assert_eq!(restarts(&probe, Cause::Stop), 0, "this is no fault");
        // What has finished is missing nowhere.
        assert_eq!(supervisor.board().readiness, Readiness::Ready);
        tokio::time::sleep(ms(100)).await;
        assert_eq!(generation(&supervisor, "probe"), 1);
        supervisor.halt().await;
    });
}

#[test]
fn a_transient_child_is_restarted_after_a_fault() {
    run(async {
        let (supervisor, probe) = tree_with(Restart::Transient);
        ready(&supervisor).await;
        act(&probe, |_, _| panic!("on purpose")).await.ok();
        in_life(&supervisor, "probe", 2).await;
        supervisor.halt().await;
    });
}

#[test]
fn a_required_child_that_has_finished_does_not_make_the_whole_unready() {
    run(async {
        let mut tree = SupervisionTree::new(policy()).unwrap();
        let once = |life: Lifeline| {
            Probe::starting(life, |_, context| {
                context.run_later(ms(1), |_, context| context.stop());
            })
        };
        let spec = ChildSpec::new("once", once).required();
        let once = tree.add(spec.restart(Restart::Transient)).unwrap();
        // Its dependents begin when its work is done, at the latest.
        for need in [
            once.always(),
            once.on_change(),
            once.to_start(),
            once.in_order(),
        ] {
            let name = format!("{need:?}").leak();
            tree.add(ChildSpec::new(name, Probe::new).required().needs(need))
                .unwrap();
        }
        let supervisor = tree.start();
        ready(&supervisor).await;
        supervisor.halt().await;
    });
}

#[test]
fn a_temporary_child_is_failed_after_its_first_fault_and_nothing_else_is() {
    run(async {
        let (supervisor, probe) = tree_with(Restart::Temporary);
        ready(&supervisor).await;
        act(&probe, |_, _| panic!("on purpose")).await.ok();
        let reason = in_state(&supervisor, "probe", State::Failed).await;
        assert_eq!(reason, Some(Reason::PANICKED));
        assert!(logged(&[
            "ERROR",
            "actor `probe` has failed, and is not restarted",
            "on purpose"
        ]));
        let escalated = tokio::time::timeout(ms(100), supervisor.escalated()).await;
        assert!(escalated.is_err(), "{escalated:?}");
        assert_eq!(generation(&supervisor, "probe"), 1);
        assert_eq!(supervisor.board().readiness, Readiness::Degraded);
        supervisor.halt().await;
    });
}

#[test]
fn a_temporary_child_is_not_restarted_with_what_it_follows() {
    run(async {
        let mut tree = SupervisionTree::new(policy()).unwrap();
        let leader = tree.add(ChildSpec::new("leader", Probe::new)).unwrap();
        for (name, rule) in [
            ("temporary", Restart::Temporary),
            ("transient", Restart::Transient),
        ] {
            let follower = ChildSpec::new(name, Probe::new).restart(rule);
            tree.add(follower.needs(leader.always())).unwrap();
        }
        let supervisor = tree.start();
        ready(&supervisor).await;
        act(&leader, |_, _| panic!("on purpose")).await.ok();
        in_life(&supervisor, "transient", 2).await;
        let reason = in_state(&supervisor, "temporary", State::Stopped).await;
        assert_eq!(reason, Some(Reason::DEPENDENCY_CHANGED));
        assert_eq!(generation(&supervisor, "temporary"), 1);
        // An operator may all the same.
        supervisor.restart("temporary").unwrap();
        in_life(&supervisor, "temporary", 2).await;
        supervisor.restart("temporary").unwrap();
        in_life(&supervisor, "temporary", 3).await;
        supervisor.halt().await;
    });
}

/// A tree of one child that fails alone, under `policy`, and of one that needs it.
fn failing_alone(
    policy: Policy,
    required: bool,
    factory: impl Fn(Lifeline) -> Probe + Send + Sync + 'static,
    need: impl Fn(&ActorHandle<Probe>) -> Need,
) -> (SupervisorHandle, ActorHandle<Probe>) {
    let mut tree = SupervisionTree::new(policy).unwrap();
    tree.add(ChildSpec::new("core", Probe::new).required())
        .unwrap();
    let spec = ChildSpec::new("probe", factory).when_exhausted(Exhausted::Fail);
    let spec = if required { spec.required() } else { spec };
    let probe = tree.add(spec).unwrap();
    tree.add(ChildSpec::new("follower", Probe::new).needs(need(&probe)))
        .unwrap();
    tree.add(ChildSpec::new("neighbour", Probe::new)).unwrap();
    (tree.start(), probe)
}

async fn never_escalates(supervisor: &SupervisorHandle) {
    let escalated = tokio::time::timeout(ms(200), supervisor.escalated()).await;
    assert!(escalated.is_err(), "{escalated:?}");
}

#[test]
fn a_child_that_uses_up_its_restarts_fails_alone() {
    run(async {
        let crash = |life| Probe::starting(life, |_, _| panic!("on purpose"));
        let (supervisor, probe) = failing_alone(policy(), false, crash, |it| it.to_start());
        let reason = in_state(&supervisor, "probe", State::Failed).await;
        assert_eq!(reason, Some(Reason::PANICKED));
        assert_eq!(
            generation(&supervisor, "probe"),
            6,
            "five restarts were allowed"
        );
        never_escalates(&supervisor).await;
        assert_eq!(generation(&supervisor, "probe"), 6, "and there is no sixth");
        assert!(!probe.is_serving());
        let board = supervisor.board();
        assert_eq!(board.readiness, Readiness::Degraded, "it is optional");
        for (name, state) in [
            ("core", State::Ready),
            ("neighbour", State::Ready),
            ("follower", State::Waiting),
        ] {
            assert_eq!(board.component(name).unwrap().state, state, "{name}");
        }
        let follower = board.component("follower").unwrap();
        assert_eq!(follower.reason, Some(Reason::DEPENDENCY));
        assert!(logged(&[
            "ERROR",
            "actor `probe` has failed permanently; everything else goes on"
        ]));
        supervisor.halt().await;
    });
}

#[test]
fn a_required_child_that_fails_alone_makes_the_whole_unready() {
    run(async {
        let (supervisor, probe) = failing_alone(policy(), true, Probe::new, |it| it.in_order());
        ready(&supervisor).await;
        while supervisor.board().component("probe").unwrap().state != State::Failed {
            act(&probe, |_, _| panic!("on purpose")).await.ok();
            tokio::time::sleep(ms(2)).await;
        }
        let down = Readiness::NotReady(NotReady::ComponentDown);
        board(&supervisor, "not ready", |board| board.readiness == down).await;
        never_escalates(&supervisor).await;
        for name in ["core", "neighbour", "follower"] {
            assert_eq!(
                supervisor.board().component(name).unwrap().state,
                State::Ready,
                "{name}"
            );
        }
        supervisor.halt().await;
    });
}

#[test]
fn those_that_always_follow_a_failed_child_stop_and_wait() {
    run(async {
        let (supervisor, probe) = failing_alone(policy(), false, Probe::new, |it| it.always());
        ready(&supervisor).await;
        while supervisor.board().component("probe").unwrap().state != State::Failed {
            act(&probe, |_, _| panic!("on purpose")).await.ok();
            tokio::time::sleep(ms(2)).await;
        }
        let reason = in_state(&supervisor, "follower", State::Waiting).await;
        assert_eq!(reason, Some(Reason::DEPENDENCY));
        supervisor.halt().await;
    });
}

#[test]
fn an_operator_gives_a_failed_child_another_life_with_all_its_restarts() {
    run(async {
        let crash = |life: Lifeline| {
            Probe::starting(life, |probe, _| {
                assert!(probe.life.generation() > 8, "on purpose");
                probe.life.ready(Serving::default());
            })
        };
        let (supervisor, probe) = failing_alone(policy(), true, crash, |it| it.to_start());
        in_state(&supervisor, "probe", State::Failed).await;
        supervisor.restart("probe").unwrap();
        in_life(&supervisor, "probe", 9).await;
        in_life(&supervisor, "follower", 1).await;
        assert_eq!(restarts(&probe, Cause::Requested), 1);
        ready(&supervisor).await;
        supervisor.halt().await;
    });
}

#[test]
fn what_cannot_start_fails_alone_as_well() {
    run(async {
        const DAMAGED: Reason = Reason::new("damaged");
        let damaged = |life| {
            Probe::starting(life, |probe, _| {
                probe.life.cannot_start(DAMAGED, "not an index")
            })
        };
        let (supervisor, _) = failing_alone(policy(), false, damaged, |it| it.to_start());
        assert_eq!(
            in_state(&supervisor, "probe", State::Failed).await,
            Some(DAMAGED)
        );
        never_escalates(&supervisor).await;
        board(&supervisor, "the rest", |board| {
            board.readiness == Readiness::Degraded
        })
        .await;
        assert_eq!(generation(&supervisor, "probe"), 1);
        supervisor.halt().await;
    });
}

#[test]
fn threads_that_do_not_end_fail_their_own_child_alone() {
    run(async {
        let policy = Policy {
            max_leaked_threads: 1,
            ..impatient()
        };
        let slot = Published::new();
        let (offered, words) = (slot.clone(), Diary::default());
        let said = words.clone();
        let stuck = move |life: Lifeline| {
            let (offered, said) = (offered.clone(), said.clone());
            Probe::starting(life, move |probe, _| {
                block(ms(4000));
                // Its life is over: nothing of this may be heard.
                probe
                    .life
                    .publish(&offered, Arc::new(probe.life.generation()));
                probe.life.ready(Serving::default());
                said.note("woke up");
            })
        };
        let mut tree = SupervisionTree::new(policy).unwrap();
        let spec = ChildSpec::new("stuck", stuck).publishes(&slot);
        tree.add(spec.when_exhausted(Exhausted::Fail)).unwrap();
        // The threads of the other do not count with those of this one.
        let core = |life: Lifeline| {
            Probe::starting(life, |probe, _| match probe.life.generation() {
                1 => block(ms(4000)),
                _ => probe.life.ready(Serving::default()),
            })
        };
        tree.add(ChildSpec::new("core", core).required()).unwrap();
        let supervisor = tree.start();
        assert_eq!(
            in_state(&supervisor, "stuck", State::Failed).await,
            Some(Reason::HUNG)
        );
        in_life(&supervisor, "core", 2).await;
        never_escalates(&supervisor).await;
        until("all to wake up", || words.entries().len() == 2).await;
        board(&supervisor, "the threads reaped", |board| {
            board.leaked_threads == 0
        })
        .await;
        assert!(slot.get().is_none(), "what was fenced off offers nothing");
        let component = supervisor.board().component("stuck").unwrap().clone();
        assert_eq!((component.state, component.generation), (State::Failed, 2));
        supervisor.halt().await;
    });
}

#[test]
fn a_leader_stops_only_when_those_that_always_follow_it_have() {
    run(async {
        let diary = Diary::default();
        let (up, down, other) = (diary.clone(), diary.clone(), diary.clone());
        let mut tree = SupervisionTree::new(policy()).unwrap();
        let leader = ChildSpec::new("leader", move |life: Lifeline| {
            let book = up.clone();
            Probe::new(life).on_shutdown(move |_, context| {
                book.note("leader");
                context.stop();
            })
        });
        let leader = tree.add(leader).unwrap();
        let follower = ChildSpec::new("follower", move |life: Lifeline| {
            let book = down.clone();
            Probe::new(life).on_shutdown(move |_, context| {
                context.run_later(ms(150), move |_, context| {
                    book.note("follower");
                    context.stop();
                });
            })
        });
        tree.add(follower.needs(leader.always())).unwrap();
        // One that only started after it does not hold it up: it is not stopped at all.
        let bystander = ChildSpec::new("bystander", move |life: Lifeline| {
            let book = other.clone();
            Probe::new(life).on_shutdown(move |_, context| {
                book.note("bystander");
                context.stop();
            })
        });
        tree.add(bystander.needs(leader.to_start())).unwrap();
        let supervisor = tree.start();
        ready(&supervisor).await;
        supervisor.restart("leader").unwrap();
        in_life(&supervisor, "leader", 2).await;
        in_life(&supervisor, "follower", 2).await;
        assert_eq!(diary.entries(), ["follower", "leader"]);
        assert_eq!(generation(&supervisor, "bystander"), 1);
        supervisor.halt().await;
    });
}

#[test]
fn the_log_says_what_a_silent_child_has_to_call() {
    run(async {
        let policy = Policy {
            start_timeout: ms(200),
            ..policy()
        };
        let mut tree = SupervisionTree::new(policy).unwrap();
        tree.add(ChildSpec::new("mute", Probe::silent)).unwrap();
        let supervisor = tree.start();
        board(&supervisor, "a second life", |board| {
            board.component("mute").unwrap().generation == 2
        })
        .await;
        assert!(logged(&[
            "`mute`",
            "it has not called `ready`, `degraded` or `unavailable` within 200ms"
        ]));
        tokio::time::timeout(Duration::from_secs(20), supervisor.halt())
            .await
            .unwrap();
    });
}
