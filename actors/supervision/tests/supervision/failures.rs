//! Each way to fail ends in a fresh life, charged to the right cause.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use actix::prelude::*;
use dotmac_supervision::{
    ActorHandle, Board, Cause, ChildSpec, Lifeline, Policy, Published, Reason, Serving,
    SupervisionTree,
};

use crate::support::*;

/// Breaks the first life of a probe by `fault`, and sees the second serve.
fn recovers(cause: Cause, fault: impl AsyncFnOnce(&ActorHandle<Probe>)) {
    run(async {
        let (supervisor, probe) = lone(policy(), Probe::new);
        let mut events = supervisor.events();
        ready(&supervisor).await;
        assert_eq!(probe.call(Ping).await, Ok(1));

        fault(&probe).await;
        in_life(&supervisor, "probe", 2).await;
        assert_eq!(probe.call(Ping).await, Ok(2));
        assert_eq!(restarts(&probe, cause), 1, "{:?}", probe.vitals());
        let all: u64 = probe.vitals().restarts.iter().map(|(_, n)| n).sum();
        assert_eq!(all, 1, "charged once: {:?}", probe.vitals());

        let mut causes = Vec::new();
        while let Ok(event) = events.try_recv() {
            causes.extend(event.cause);
        }
        assert_eq!(causes, [cause]);
        supervisor.halt().await;
    });
}

/// A probe whose first life is built by `first`, and all others well.
fn recovers_from_start(
    cause: Cause,
    policy: Policy,
    first: impl Fn(Lifeline) -> Probe + Send + Sync + 'static,
) {
    run(async {
        let factory = move |life: Lifeline| match life.generation() {
            1 => first(life),
            _ => Probe::new(life),
        };
        let (supervisor, probe) = lone(policy, factory);
        in_life(&supervisor, "probe", 2).await;
        assert_eq!(probe.call(Ping).await, Ok(2));
        assert_eq!(restarts(&probe, cause), 1, "{:?}", probe.vitals());
        supervisor.halt().await;
    });
}

#[test]
fn an_actor_that_gives_up_is_restarted() {
    recovers(Cause::Upstream, async |probe| {
        let refused = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&refused);
        act(probe, move |probe, _| {
            probe.life.fail(Reason::UNREACHABLE, "nobody at home");
            seen.store(!probe.life.is_current(), SeqCst);
        })
        .await
        .ok();
        until("callers to be refused at once", || refused.load(SeqCst)).await;
    });
}

#[test]
fn an_actor_that_stops_itself_is_restarted() {
    recovers(Cause::Stop, async |probe| {
        act(probe, |_, context| context.stop()).await.ok();
    });
}

#[test]
fn an_actor_that_terminates_itself_is_restarted() {
    recovers(Cause::Stop, async |probe| {
        act(probe, |_, context| context.terminate()).await.ok();
    });
}

#[test]
fn a_panic_in_a_handler_is_survived() {
    recovers(Cause::Panic, async |probe| {
        let lost = act(probe, |_, _| panic!("on purpose")).await;
        assert!(lost.is_err());
    });
}

#[test]
fn a_panic_in_a_future_of_the_context_is_survived() {
    recovers(Cause::Panic, async |probe| {
        act(probe, |_, context| {
            context.spawn(fut::wrap_future(async { panic!("on purpose") }));
        })
        .await
        .ok();
    });
}

#[test]
fn a_panic_in_a_spawned_task_of_the_actor_is_survived() {
    recovers(Cause::Panic, async |probe| {
        act(probe, |_, _| {
            actix_rt::spawn(async { panic!("on purpose") });
        })
        .await
        .ok();
    });
}

#[test]
fn a_panic_in_a_response_future_is_survived() {
    recovers(Cause::Panic, async |probe| {
        let lost = probe
            .call(Later(Box::pin(async { panic!("on purpose") })))
            .await;
        assert!(lost.is_err());
    });
}

#[test]
fn the_death_of_the_thread_is_survived() {
    recovers(Cause::ThreadLost, async |probe| {
        act(probe, |_, _| {
            actix_rt::Arbiter::current().stop();
        })
        .await
        .ok();
    });
}

#[test]
fn a_panic_in_the_start_is_survived() {
    recovers_from_start(Cause::Panic, policy(), |life| {
        Probe::starting(life, |_, _| panic!("on purpose"))
    });
}

#[test]
fn a_panic_in_the_factory_is_survived() {
    recovers_from_start(Cause::Panic, policy(), |_| panic!("on purpose"));
}

#[test]
fn an_error_in_the_start_is_survived() {
    recovers_from_start(Cause::Upstream, policy(), |life| {
        Probe::starting(life, |probe, _| {
            probe.life.fail(Reason::UNREACHABLE, "nobody at home");
        })
    });
}

#[test]
fn an_actor_that_says_nothing_in_time_is_restarted() {
    let policy = Policy {
        start_timeout: ms(300),
        ..policy()
    };
    recovers_from_start(Cause::StartTimeout, policy, Probe::silent);
}

#[test]
fn a_second_panic_while_the_actor_is_dropped_does_not_abort_the_process() {
    run(async {
        let seen = Arc::new(AtomicU32::new(0));
        let (in_stopped, in_drop) = (Arc::clone(&seen), Arc::clone(&seen));
        let factory = move |life: Lifeline| {
            let (in_stopped, in_drop) = (Arc::clone(&in_stopped), Arc::clone(&in_drop));
            let first = life.generation() == 1;
            Probe::new(life)
                .on_stopped(move || {
                    if first {
                        in_stopped.fetch_add(1, SeqCst);
                        panic!("in stopped, on purpose");
                    }
                })
                .on_drop(move || {
                    if first {
                        in_drop.fetch_add(10, SeqCst);
                    }
                })
        };
        let (supervisor, probe) = lone(policy(), factory);
        ready(&supervisor).await;
        act(&probe, |_, _| panic!("on purpose")).await.ok();
        in_life(&supervisor, "probe", 2).await;
        assert_eq!(seen.load(SeqCst), 11, "it was stopped and dropped");
        assert_eq!(restarts(&probe, Cause::Panic), 1);
        supervisor.halt().await;
    });
}

#[test]
fn a_panic_while_dropping_a_stopped_actor_is_a_panic() {
    run(async {
        let factory = |life: Lifeline| {
            let first = life.generation() == 1;
            Probe::new(life).on_drop(move || assert!(!first, "in drop, on purpose"))
        };
        let (supervisor, probe) = lone(policy(), factory);
        ready(&supervisor).await;
        act(&probe, |_, context| context.stop()).await.ok();
        in_life(&supervisor, "probe", 2).await;
        assert_eq!(restarts(&probe, Cause::Panic), 1, "{:?}", probe.vitals());
        supervisor.halt().await;
    });
}

/// An offer that can't be dropped in peace.
struct Grenade {
    armed: bool,
}

impl Drop for Grenade {
    fn drop(&mut self) {
        assert!(!self.armed, "an offer, on purpose");
    }
}

fn offer_a_grenade(policy: Policy, fault: impl AsyncFnOnce(&ActorHandle<Probe>)) {
    run(async {
        let slot = Published::new();
        let offered = slot.clone();
        let factory = move |life: Lifeline| {
            let offered = offered.clone();
            Probe::starting(life, move |probe, _| {
                let armed = probe.life.generation() == 1;
                probe.life.publish(&offered, Arc::new(Grenade { armed }));
                probe.life.ready(Serving::default());
            })
        };
        let mut tree = SupervisionTree::new(policy).unwrap();
        let spec = ChildSpec::new("probe", factory).required().publishes(&slot);
        let probe = tree.add(spec).unwrap();
        let supervisor = tree.start();
        ready(&supervisor).await;
        fault(&probe).await;
        in_life(&supervisor, "probe", 2).await;
        assert!(slot.get().is_some());
        let ended = |board: &Board| board.leaked_threads == 0;
        board(&supervisor, "the former thread to end", ended).await;
        supervisor.halt().await;
        assert!(slot.get().is_none());
    });
}

#[test]
fn an_offer_whose_drop_panics_does_not_abort_a_panicking_process() {
    offer_a_grenade(policy(), async |probe| {
        act(probe, |_, _| panic!("on purpose")).await.ok();
    });
}

#[test]
fn an_offer_whose_drop_panics_does_not_take_the_supervisor_along() {
    offer_a_grenade(impatient(), async |probe| {
        act(probe, |_, _| block(ms(900))).await.ok();
    });
}

#[test]
fn giving_up_waits_longest_and_never_escalates() {
    run(async {
        let policy = Policy {
            intensity: 1,
            backoff_max: ms(100),
            ..policy()
        };
        let began = Instant::now();
        let factory = |life: Lifeline| {
            Probe::starting(life, |probe, _| match probe.life.generation() {
                1..=6 => probe.life.fail(Reason::UNREACHABLE, "nobody at home"),
                _ => probe.life.ready(Serving::default()),
            })
        };
        let (supervisor, probe) = lone(policy, factory);
        in_life(&supervisor, "probe", 7).await;
        assert!(began.elapsed() >= ms(6 * 50), "half of the longest, each");
        assert_eq!(restarts(&probe, Cause::Upstream), 6);
        let escalated = tokio::time::timeout(Duration::ZERO, supervisor.escalated()).await;
        assert!(escalated.is_err(), "{escalated:?}");
        supervisor.halt().await;
    });
}

#[test]
fn a_panic_is_logged_and_charged_with_its_message_and_place() {
    run(async {
        let (supervisor, probe) = lone(policy(), Probe::new);
        ready(&supervisor).await;
        let line = line!() + 1;
        act(&probe, |_, _| panic!("the {} broke", "coil"))
            .await
            .ok();
        in_life(&supervisor, "probe", 2).await;
        let place = format!("failures.rs:{line}:");
        assert!(logged(&[
            "ERROR",
            "panic.message=\"the coil broke\"",
            &place,
            "actor.name=\"probe\""
        ]));
        assert!(logged(&[
            "WARN",
            "restarting actor `probe`",
            "the coil broke",
            &place,
            "cause=\"panic\""
        ]));
        supervisor.halt().await;
    });
}

#[test]
fn panics_are_charged_even_when_the_hook_was_replaced() {
    if in_own_process("failures::panics_are_charged_even_when_the_hook_was_replaced").is_some() {
        return;
    }
    run(async {
        let factory = |life: Lifeline| {
            let generation = life.generation();
            assert!(generation != 3, "in the factory, on purpose");
            Probe::new(life).on_drop(move || assert!(generation != 2, "in drop, on purpose"))
        };
        let (supervisor, probe) = lone(policy(), factory);
        std::panic::set_hook(Box::new(|_| {}));
        ready(&supervisor).await;
        act(&probe, |_, _| panic!("on purpose")).await.ok();
        in_life(&supervisor, "probe", 2).await;
        act(&probe, |_, context| context.stop()).await.ok();
        in_life(&supervisor, "probe", 4).await;
        assert_eq!(restarts(&probe, Cause::Panic), 3, "{:?}", probe.vitals());
        supervisor.halt().await;
    });
}

#[test]
fn a_panic_that_would_not_be_logged_is_left_to_the_former_hook() {
    let name = "failures::a_panic_that_would_not_be_logged_is_left_to_the_former_hook";
    if let Some(said) = in_own_process(name) {
        assert!(said.contains("nobody logs this"), "{said}");
        return;
    }
    // Not by `run`, which begins to log.
    System::new().block_on(async {
        let (supervisor, probe) = lone(policy(), Probe::new);
        ready(&supervisor).await;
        act(&probe, |_, _| panic!("nobody logs this")).await.ok();
        in_life(&supervisor, "probe", 2).await;
        supervisor.halt().await;
    });
}
