//! What the world sees, and when.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use dotmac_supervision::{
    ActorHandle, Cause, ChildSpec, Lifeline, NotReady, Policy, Readiness, Reason, Serving, State,
    SupervisionTree, SupervisorHandle,
};

use crate::support::*;

const HANDICAP: Reason = Reason::new("handicap");

/// A required child and an optional one, which both report nothing before the test asks for it.
fn two() -> (
    SupervisorHandle,
    ActorHandle<Probe>,
    ActorHandle<Probe>,
    [Arc<AtomicBool>; 2],
) {
    let go = [
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    ];
    let waiting_for = |go: &Arc<AtomicBool>| {
        let go = Arc::clone(go);
        move |life: Lifeline| {
            let go = Arc::clone(&go);
            Probe::starting(life, move |_, context| {
                use actix::AsyncContext;
                context.run_interval(ms(5), move |probe, _| {
                    if go.swap(false, SeqCst) {
                        probe.life.ready(Serving::default());
                    }
                });
            })
        }
    };
    let mut tree = SupervisionTree::new(policy()).unwrap();
    let db = ChildSpec::new("db", waiting_for(&go[0])).required();
    let db = tree.add(db).unwrap();
    let telemetry = ChildSpec::new("telemetry", waiting_for(&go[1]));
    let telemetry = tree.add(telemetry).unwrap();
    (tree.start(), db, telemetry, go)
}

async fn readiness(supervisor: &SupervisorHandle, wanted: Readiness) {
    board(supervisor, &format!("{wanted:?}"), |board| {
        board.readiness == wanted
    })
    .await;
}

#[test]
fn readiness_follows_the_children_through_a_whole_life() {
    run(async {
        let (supervisor, db, telemetry, go) = two();
        let starting = Readiness::NotReady(NotReady::Starting);
        let down = Readiness::NotReady(NotReady::ComponentDown);
        assert_eq!(supervisor.board().readiness, starting);

        go[0].store(true, SeqCst);
        let board = board(&supervisor, "db", |board| {
            board.components[0].state == State::Ready
        })
        .await;
        assert_eq!(board.readiness, starting, "telemetry has not reported yet");
        assert!(!board.started);
        go[1].store(true, SeqCst);
        readiness(&supervisor, Readiness::Ready).await;
        assert!(supervisor.board().started);

        act(&telemetry, |probe, _| {
            probe.life.unavailable(Reason::UNREACHABLE)
        })
        .await
        .unwrap();
        readiness(&supervisor, Readiness::Degraded).await;
        act(&db, |probe, _| {
            probe.life.degraded(HANDICAP, Serving::from("file"))
        })
        .await
        .unwrap();
        board_of(&supervisor, "db", State::Degraded, Some(HANDICAP)).await;
        assert_eq!(supervisor.board().readiness, Readiness::Degraded);
        assert_eq!(supervisor.board().components[0].source, Some("file"));
        act(&db, |probe, _| probe.life.unavailable(Reason::UNREACHABLE))
            .await
            .unwrap();
        readiness(&supervisor, down).await;
        assert!(supervisor.board().started, "it was, and that stays");
        go[0].store(true, SeqCst);
        readiness(&supervisor, Readiness::Degraded).await;
        go[1].store(true, SeqCst);
        readiness(&supervisor, Readiness::Ready).await;
        supervisor.drain();
        readiness(&supervisor, Readiness::NotReady(NotReady::Draining)).await;
        supervisor.halt().await;
    });
}

async fn board_of(supervisor: &SupervisorHandle, name: &str, state: State, reason: Option<Reason>) {
    board(supervisor, &format!("{name} {state}"), |board| {
        let component = board.component(name).unwrap();
        (component.state, component.reason) == (state, reason)
    })
    .await;
}

#[test]
fn an_optional_child_that_is_away_does_not_hold_up_the_start_of_the_whole() {
    run(async {
        let mut tree = SupervisionTree::new(policy()).unwrap();
        tree.add(ChildSpec::new("db", Probe::new).required())
            .unwrap();
        let mail = ChildSpec::new("mail", |life| {
            Probe::starting(life, |probe, _| probe.life.unavailable(Reason::UNREACHABLE))
        });
        let mail = tree.add(mail).unwrap();
        let letters = ChildSpec::new("letters", Probe::new).needs(mail.always());
        let letters = tree.add(letters).unwrap();
        tree.add(ChildSpec::new("last", Probe::new).needs(letters.in_order()))
            .unwrap();
        let supervisor = tree.start();
        readiness(&supervisor, Readiness::Degraded).await;
        in_life(&supervisor, "last", 1).await;
        board_of(
            &supervisor,
            "letters",
            State::Waiting,
            Some(Reason::DEPENDENCY),
        )
        .await;
        supervisor.halt().await;
    });
}

#[test]
fn events_tell_a_life_in_order_with_the_cause_of_each_end() {
    run(async {
        let (supervisor, probe) = lone(policy(), |life| {
            Probe::starting(life, |probe, _| match probe.life.generation() {
                // These end as they began, without a change of state between them.
                2 | 3 => panic!("on purpose"),
                _ => probe.life.ready(Serving::default()),
            })
        });
        let mut events = supervisor.events();
        ready(&supervisor).await;
        act(&probe, |_, context| actix::ActorContext::stop(context))
            .await
            .ok();
        in_life(&supervisor, "probe", 4).await;
        act(&probe, |probe, _| probe.life.unavailable(HANDICAP))
            .await
            .unwrap();
        board_of(&supervisor, "probe", State::Unavailable, Some(HANDICAP)).await;
        supervisor.halt().await;

        let mut seen = Vec::new();
        while let Ok(event) = events.try_recv() {
            assert_eq!(event.component, "probe");
            seen.push((event.state, event.reason, event.cause));
        }
        let expected = [
            (State::Starting, Some(Reason::STARTING), None),
            (State::Ready, None, None),
            (State::Restarting, Some(Reason::STOPPED), Some(Cause::Stop)),
            (
                State::Restarting,
                Some(Reason::PANICKED),
                Some(Cause::Panic),
            ),
            (
                State::Restarting,
                Some(Reason::PANICKED),
                Some(Cause::Panic),
            ),
            (State::Ready, None, None),
            (State::Unavailable, Some(HANDICAP), None),
            (State::Stopping, Some(Reason::SHUTDOWN), None),
            (State::Stopped, Some(Reason::SHUTDOWN), None),
        ];
        assert_eq!(seen, expected);
    });
}

#[test]
fn the_board_changes_only_when_something_happened() {
    run(async {
        let (supervisor, probe) = lone(policy(), Probe::new);
        ready(&supervisor).await;
        let before = supervisor.board();
        for _ in 0..10 {
            probe.call(Ping).await.unwrap();
            act(&probe, |probe, _| probe.life.ready(Serving::default()))
                .await
                .unwrap();
        }
        tokio::time::sleep(ms(150)).await;
        assert!(
            Arc::ptr_eq(&before, &supervisor.board()),
            "the very same board"
        );
        assert!(probe.vitals().heartbeat_age.is_some());
        supervisor.halt().await;
        assert!(supervisor.board().serial > before.serial);
        assert_eq!(supervisor.vitals().next().unwrap().heartbeat_age, None);
    });
}

#[test]
fn restarts_are_counted_and_dated() {
    run(async {
        let slow = Policy {
            backoff_min: ms(200),
            backoff_max: ms(200),
            ..policy()
        };
        let (supervisor, probe) = lone(slow, Probe::new);
        ready(&supervisor).await;
        let first = supervisor.board().components[0].clone();
        act(&probe, |_, _| panic!("on purpose")).await.ok();
        board_of(
            &supervisor,
            "probe",
            State::Restarting,
            Some(Reason::PANICKED),
        )
        .await;
        in_life(&supervisor, "probe", 2).await;
        let second = supervisor.board().components[0].clone();
        assert_eq!((first.restarts, second.restarts), (0, 1));
        assert_eq!(second.generation, 2);
        assert!(second.since > first.since);
        supervisor.halt().await;
    });
}

#[test]
fn a_restart_that_was_asked_for_is_no_error_unless_it_goes_wrong() {
    run(async {
        let is_away = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_away);
        let mut tree = SupervisionTree::new(policy()).unwrap();
        let spec = ChildSpec::new("asked-for", move |life| {
            let seen = Arc::clone(&seen);
            Probe::starting(life, move |probe, _| {
                if seen.load(SeqCst) {
                    probe.life.unavailable(HANDICAP);
                } else {
                    probe.life.ready(Serving::default());
                }
            })
        });
        tree.add(spec.required()).unwrap();
        let supervisor = tree.start();
        ready(&supervisor).await;
        let error = ["ERROR", "not ready", "asked-for"];

        supervisor.restart("asked-for").unwrap();
        in_life(&supervisor, "asked-for", 2).await;
        assert!(!logged(&error));

        is_away.store(true, SeqCst);
        supervisor.restart("asked-for").unwrap();
        board_of(&supervisor, "asked-for", State::Unavailable, Some(HANDICAP)).await;
        assert!(logged(&error));
        supervisor.halt().await;
    });
}
