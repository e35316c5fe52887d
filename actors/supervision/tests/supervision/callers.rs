//! What callers get: an answer, or quickly a reason why not.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use dotmac_supervision::{
    CallError, CallOutcome, Cause, ChildSpec, Lifeline, Policy, Published, Reason, Serving, State,
    SupervisionTree,
};

use crate::support::*;

#[test]
fn an_overloaded_actor_refuses_the_rest_as_busy() {
    run(async {
        let policy = Policy {
            in_flight_limit: 8,
            ..policy()
        };
        let (supervisor, probe) = lone(policy, Probe::new);
        ready(&supervisor).await;
        let calls = (0..20).map(|_| probe.call(Later(Box::pin(tokio::time::sleep(ms(200))))));
        let answers = futures_util::future::join_all(calls).await;
        let answered = answers.iter().filter(|answer| answer.is_ok()).count();
        let busy = CallError::Busy { actor: "probe" };
        let refused = answers
            .iter()
            .filter(|answer| **answer == Err(busy))
            .count();
        assert_eq!((answered, refused), (8, 12));
        assert!(busy.retry_after() >= Duration::from_secs(1));
        assert_eq!(
            probe.vitals().calls_in_flight,
            0,
            "all places were given back"
        );
        assert_eq!(probe.call(Ping).await, Ok(1));
        supervisor.halt().await;
    });
}

#[test]
fn a_call_that_takes_too_long_gets_a_timeout() {
    run(async {
        let policy = Policy {
            call_timeout: ms(80),
            ..policy()
        };
        let (supervisor, probe) = lone(policy, Probe::new);
        ready(&supervisor).await;
        let late = probe
            .call(Later(Box::pin(tokio::time::sleep(ms(5000)))))
            .await;
        let expected = CallError::Timeout {
            actor: "probe",
            waited: ms(80),
        };
        assert_eq!(late, Err(expected));
        assert_eq!(probe.vitals().calls_in_flight, 0);
        assert_eq!(generation(&supervisor, "probe"), 1, "once is no hang");
        supervisor.halt().await;
    });
}

#[test]
fn an_actor_that_has_not_reported_yet_admits_no_caller() {
    run(async {
        let (supervisor, probe) = lone(policy(), Probe::silent);
        board(&supervisor, "the start", |board| {
            board.components[0].generation == 1
        })
        .await;
        let refused = probe.call(Ping).await;
        assert!(
            matches!(refused, Err(CallError::Down { .. })),
            "{refused:?}"
        );
        supervisor.halt().await;
    });
}

#[test]
fn an_unavailable_actor_withdraws_its_offers_and_refuses_callers_without_a_fault() {
    run(async {
        let slot = Published::new();
        let offered = slot.clone();
        let factory = move |life: Lifeline| {
            life.publish(&offered, Arc::new("a pool"));
            Probe::new(life)
        };
        let mut tree = SupervisionTree::new(policy()).unwrap();
        let spec = ChildSpec::new("probe", factory).required().publishes(&slot);
        let probe = tree.add(spec).unwrap();
        let supervisor = tree.start();
        ready(&supervisor).await;
        assert!(slot.get().is_some());

        let back = slot.clone();
        act(&probe, move |probe, context| {
            use actix::AsyncContext;
            probe.life.unavailable(Reason::UNREACHABLE);
            context.run_later(ms(300), move |probe, _| {
                probe.life.publish(&back, Arc::new("a new pool"));
                probe.life.ready(Serving::default());
            });
        })
        .await
        .unwrap();
        // Before the supervisor has heard of it.
        assert!(slot.get().is_none() && !probe.is_serving());
        let refused = probe.call(Ping).await;
        assert!(
            matches!(refused, Err(CallError::Down { .. })),
            "{refused:?}"
        );
        let away = board(&supervisor, "unavailable", |board| {
            !board.readiness.serves()
        })
        .await;
        assert_eq!(away.components[0].state, State::Unavailable);
        assert_eq!(away.components[0].restarts, 0);
        assert_eq!(away.components[0].reason, Some(Reason::UNREACHABLE));

        ready(&supervisor).await;
        assert_eq!(slot.get().as_deref(), Some(&"a new pool"));
        assert_eq!(probe.call(Ping).await, Ok(1), "the same life");
        assert!(probe.vitals().restarts.iter().all(|(_, count)| *count == 0));
        supervisor.halt().await;
    });
}

#[test]
fn an_offer_is_gone_as_soon_as_a_caller_knows_of_the_panic() {
    run(async {
        let slot = Published::new();
        let offered = slot.clone();
        let factory = move |life: Lifeline| {
            life.publish(&offered, Arc::new(life.generation()));
            Probe::new(life)
        };
        let policy = Policy {
            intensity: 1_000,
            period: ms(3_600_000),
            backoff_min: Duration::ZERO,
            backoff_max: Duration::ZERO,
            ..policy()
        };
        let mut tree = SupervisionTree::new(policy).unwrap();
        let spec = ChildSpec::new("probe", factory).required().publishes(&slot);
        let probe = tree.add(spec).unwrap();
        let supervisor = tree.start();
        ready(&supervisor).await;
        for life in 1..=100 {
            assert_eq!(slot.get().as_deref(), Some(&life));
            act(&probe, |_, _| panic!("on purpose")).await.unwrap_err();
            assert_ne!(slot.get().as_deref(), Some(&life));
            in_life(&supervisor, "probe", life + 1).await;
        }
        supervisor.halt().await;
    });
}

#[test]
fn what_a_former_life_says_is_not_heard() {
    run(async {
        let slot = Published::new();
        let offered = slot.clone();
        let first = Arc::new(Mutex::new(None));
        let kept = Arc::clone(&first);
        let factory = move |life: Lifeline| {
            kept.lock().unwrap().get_or_insert(life.clone());
            life.publish(&offered, Arc::new(life.generation()));
            Probe::new(life)
        };
        let mut tree = SupervisionTree::new(policy()).unwrap();
        let spec = ChildSpec::new("probe", factory).required().publishes(&slot);
        let probe = tree.add(spec).unwrap();
        let supervisor = tree.start();
        ready(&supervisor).await;
        act(&probe, |_, _| panic!("on purpose")).await.ok();
        in_life(&supervisor, "probe", 2).await;
        let before = supervisor.board();

        let former: Lifeline = first.lock().unwrap().clone().unwrap();
        assert_eq!((former.generation(), former.is_current()), (1, false));
        former.publish(&slot, Arc::new(77));
        former.unavailable(Reason::UNREACHABLE);
        former.degraded(Reason::UNREACHABLE, Serving::default().version(7));
        former.fail(Reason::UNREACHABLE, "too late");
        tokio::time::sleep(ms(150)).await;
        assert_eq!(slot.get().as_deref(), Some(&2));
        assert_eq!(*supervisor.board(), *before);
        assert_eq!(probe.call(Ping).await, Ok(2));
        assert_eq!(restarts(&probe, Cause::Upstream), 0);
        supervisor.halt().await;
    });
}

#[test]
fn the_observer_sees_each_call() {
    run(async {
        let reported = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&reported);
        let mut tree = SupervisionTree::new(policy())
            .unwrap()
            .observe_calls(Arc::new(move |actor, took, outcome| {
                notes.lock().unwrap().push((actor, took, outcome));
            }));
        let probe = tree.add(ChildSpec::new("probe", Probe::new)).unwrap();
        let supervisor = tree.start();
        ready(&supervisor).await;
        probe
            .call(Later(Box::pin(tokio::time::sleep(ms(50)))))
            .await
            .unwrap();
        supervisor.halt().await;
        probe.call(Ping).await.unwrap_err();
        let reported = reported.lock().unwrap();
        let seen: Vec<_> = reported
            .iter()
            .map(|(actor, _, outcome)| (*actor, *outcome))
            .collect();
        assert_eq!(
            seen,
            [
                ("probe", CallOutcome::Answered),
                ("probe", CallOutcome::Failed)
            ]
        );
        assert!(reported[0].1 >= ms(50));
    });
}
