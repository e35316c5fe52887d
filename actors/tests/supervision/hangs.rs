//! What counts as a hang, what is done about it, and what must not be taken for one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Instant,
};

use actix::prelude::*;
use dotmac_actors::supervision::{
    CallError, Cause, ChildSpec, Lifeline, Policy, Published, Reason, Serving, SupervisionTree,
};

use crate::support::*;

#[test]
fn an_actor_that_waits_for_ever_is_restarted() {
    run(async {
        let (supervisor, probe) = lone(impatient(), Probe::new);
        ready(&supervisor).await;
        act(&probe, |_, context| {
            context.wait(fut::wrap_future(std::future::pending::<()>()));
        })
        .await
        .ok();
        in_life(&supervisor, "probe", 2).await;
        assert_eq!(restarts(&probe, Cause::Hang), 1);
        assert_eq!(
            supervisor.board().leaked_threads,
            0,
            "its thread could be ended"
        );
        supervisor.halt().await;
    });
}

#[test]
fn a_start_that_blocks_is_a_hang() {
    run(async {
        let factory = |life: Lifeline| {
            if life.generation() == 1 {
                block(ms(1500));
            }
            Probe::new(life)
        };
        let (supervisor, probe) = lone(impatient(), factory);
        in_life(&supervisor, "probe", 2).await;
        assert_eq!(restarts(&probe, Cause::Hang), 1);
        supervisor.halt().await;
    });
}

#[test]
fn a_stuck_thread_fails_its_callers_at_once_and_is_reaped_when_it_wakes() {
    run(async {
        let slot = Published::new();
        let offered = slot.clone();
        let factory = move |life: Lifeline| {
            let offered = offered.clone();
            Probe::starting(life, move |probe, _| {
                probe
                    .life
                    .publish(&offered, Arc::new(probe.life.generation()));
                probe.life.ready(Serving::default());
            })
        };
        let mut tree = SupervisionTree::new(impatient()).unwrap();
        let spec = ChildSpec::new("probe", factory).required().publishes(&slot);
        let probe = tree.add(spec).unwrap();
        let supervisor = tree.start();
        ready(&supervisor).await;

        let (release, held) = std::sync::mpsc::channel::<()>();
        let late_slot = slot.clone();
        let late_word = Arc::new(AtomicBool::new(false));
        let said = Arc::clone(&late_word);
        let stuck = act(&probe, move |probe, _| {
            held.recv().ok();
            assert!(!probe.life.is_current());
            probe.life.publish(&late_slot, Arc::new(99));
            probe.life.unavailable(Reason::UNREACHABLE);
            probe.life.fail(Reason::UNREACHABLE, "too late");
            said.store(true, SeqCst);
        });
        let waiting = (0..50).map(|_| probe.call(Ping));
        let started = Instant::now();
        let (stuck, waited) = futures_util::join!(stuck, futures_util::future::join_all(waiting));
        // Their own time-out is ten seconds.
        assert!(started.elapsed() < ms(8000));
        assert!(matches!(stuck, Err(CallError::Lost { .. })), "{stuck:?}");
        for answer in waited {
            assert!(matches!(answer, Err(CallError::Lost { .. })), "{answer:?}");
        }

        in_life(&supervisor, "probe", 2).await;
        let before = supervisor.board();
        assert_eq!(before.leaked_threads, 1);
        assert_eq!(slot.get().as_deref(), Some(&2));
        release.send(()).unwrap();
        until("the late word", || late_word.load(SeqCst)).await;
        board(&supervisor, "the thread reaped", |board| {
            board.leaked_threads == 0
        })
        .await;
        assert_eq!(
            slot.get().as_deref(),
            Some(&2),
            "a former life offers nothing"
        );
        assert_eq!(
            probe.call(Ping).await,
            Ok(2),
            "a former life changes nothing"
        );
        assert_eq!(generation(&supervisor, "probe"), 2);
        assert_eq!(supervisor.board().components, before.components);
        supervisor.halt().await;
    });
}

#[test]
fn new_callers_of_a_failed_actor_are_refused_at_once() {
    run(async {
        let policy = Policy {
            backoff_min: ms(2000),
            backoff_max: ms(2000),
            ..impatient()
        };
        let (supervisor, probe) = lone(policy, Probe::new);
        ready(&supervisor).await;
        act(&probe, |_, _| panic!("on purpose")).await.ok();
        let refused = probe.call(Ping).await;
        assert!(
            matches!(refused, Err(CallError::Down { .. })),
            "{refused:?}"
        );
        board(&supervisor, "the fault", |board| !board.readiness.serves()).await;
        let started = Instant::now();
        for _ in 0..100 {
            let refused = probe.call(Ping).await.unwrap_err();
            assert!(matches!(refused, CallError::Down { .. }), "{refused:?}");
            assert!(refused.retry_after() >= ms(1000) && refused.retry_after() <= ms(2000));
        }
        assert!(started.elapsed() < ms(900), "all before the restart");
        supervisor.halt().await;
    });
}

#[test]
fn a_factory_that_returns_too_late_does_not_take_its_successors_place() {
    run(async {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = std::sync::Mutex::new(held);
        let late_start = Arc::new(AtomicBool::new(false));
        let started = Arc::clone(&late_start);
        let factory = move |life: Lifeline| {
            if life.generation() > 1 {
                return Probe::silent(life);
            }
            held.lock().unwrap().recv().ok();
            let started = Arc::clone(&started);
            Probe::starting(life, move |_, _| started.store(true, SeqCst))
        };
        let lives = Diary::default();
        let seen = lives.clone();
        let lifeline = Arc::new(std::sync::Mutex::new(None));
        let kept = Arc::clone(&lifeline);
        let factory = move |life: Lifeline| {
            seen.note("begun");
            *kept.lock().unwrap() = Some(life.clone());
            factory(life)
        };
        let (supervisor, probe) = lone(impatient(), factory);
        until("the second life", || lives.entries().len() == 2).await;
        release.send(()).unwrap();
        board(&supervisor, "the thread reaped", |board| {
            board.leaked_threads == 0
        })
        .await;
        let life = lifeline.lock().unwrap().clone().unwrap();
        life.ready(Serving::default());
        in_life(&supervisor, "probe", 2).await;
        assert_eq!(probe.call(Ping).await, Ok(2));
        assert!(!late_start.load(SeqCst), "a former life never starts");
        supervisor.halt().await;
    });
}

#[test]
fn calls_in_a_row_without_an_answer_are_a_hang() {
    run(async {
        let policy = Policy {
            call_timeout: ms(50),
            unanswered_limit: 4,
            ..policy()
        };
        let (supervisor, probe) = lone(policy, Probe::new);
        ready(&supervisor).await;
        while restarts(&probe, Cause::Unanswered) == 0 {
            probe
                .call(Later(Box::pin(std::future::pending())))
                .await
                .ok();
        }
        in_life(&supervisor, "probe", 2).await;
        assert_eq!(restarts(&probe, Cause::Hang), 0);
        supervisor.halt().await;
    });
}

#[test]
fn an_actor_that_answers_now_and_then_is_not_hung() {
    run(async {
        let policy = Policy {
            call_timeout: ms(400),
            unanswered_limit: 3,
            ..policy()
        };
        let (supervisor, probe) = lone(policy, Probe::new);
        ready(&supervisor).await;
        let (mut timeouts, mut others) = (0, 0);
        for _ in 0..3 {
            // All are past their deadline together, after one that was answered meanwhile.
            let never = (0..10).map(|_| probe.call(Later(Box::pin(std::future::pending()))));
            let answered = async {
                tokio::time::sleep(ms(100)).await;
                probe.call(Ping).await
            };
            let (never, answered) =
                futures_util::join!(futures_util::future::join_all(never), answered);
            assert_eq!(answered, Ok(1));
            for result in never {
                match result {
                    Err(CallError::Timeout { .. }) => timeouts += 1,
                    _ => others += 1,
                }
            }
            tokio::time::sleep(ms(50)).await;
        }
        assert_eq!((timeouts, others), (30, 0));
        assert_eq!(generation(&supervisor, "probe"), 1);
        supervisor.halt().await;
    });
}

#[test]
fn a_saturated_actor_is_not_taken_for_hung() {
    run(async {
        let policy = Policy {
            hang_after: ms(700),
            ..policy()
        };
        let (supervisor, probe) = lone(policy, Probe::new);
        ready(&supervisor).await;
        // The thread never comes back to its timers: answers are its only sign of life.
        let until = Instant::now() + ms(2500);
        let callers = (0..128).map(|_| async {
            while Instant::now() < until {
                act(&probe, |_, _| {
                    let work = Instant::now() + std::time::Duration::from_micros(100);
                    while Instant::now() < work {
                        std::hint::spin_loop();
                    }
                })
                .await
                .unwrap();
            }
        });
        futures_util::future::join_all(callers).await;
        assert_eq!(generation(&supervisor, "probe"), 1);
        supervisor.halt().await;
    });
}

#[test]
fn a_stall_of_the_supervisor_restarts_nobody() {
    run(async {
        let (supervisor, probe) = lone(impatient(), Probe::new);
        ready(&supervisor).await;
        let (alive, age) = {
            block(ms(1200));
            (supervisor.is_alive(), supervisor.beat_age())
        };
        assert!(!alive && age >= ms(1000), "and it can be seen from outside");
        until("the supervisor's next beat", || supervisor.is_alive()).await;
        tokio::time::sleep(ms(500)).await;
        assert_eq!(generation(&supervisor, "probe"), 1);
        assert_eq!(probe.call(Ping).await, Ok(1));
        supervisor.halt().await;
    });
}

#[test]
fn a_stall_of_the_whole_process_is_held_against_nobody() {
    run(async {
        let policy = Policy {
            hang_after: ms(1500),
            start_timeout: ms(2000),
            ..policy()
        };
        let mut tree = SupervisionTree::new(policy).unwrap();
        let busy = tree.add(ChildSpec::new("busy", Probe::new)).unwrap();
        let slow = ChildSpec::new("slow", |life: Lifeline| {
            Probe::starting(life, |_, context| {
                context.run_later(ms(50), |probe, _| {
                    block(ms(2900));
                    probe.life.ready(Serving::default());
                });
            })
        });
        tree.add(slow.essential()).unwrap();
        let supervisor = tree.start();
        in_life(&supervisor, "busy", 1).await;
        // As a SIGSTOP would: first this thread stands still and theirs with it, then all go on.
        let held = tokio::spawn({
            let busy = busy.clone();
            async move { act(&busy, |_, _| block(ms(2900))).await }
        });
        tokio::time::sleep(ms(100)).await;
        block(ms(2500));
        held.await.unwrap().unwrap();
        ready(&supervisor).await;
        for name in ["busy", "slow"] {
            assert_eq!(generation(&supervisor, name), 1, "{name}");
        }
        supervisor.halt().await;
    });
}

#[test]
fn callers_that_stood_still_themselves_do_not_judge() {
    run(async {
        let policy = Policy {
            call_timeout: ms(300),
            unanswered_limit: 8,
            hang_after: ms(20_000),
            ..policy()
        };
        let (supervisor, probe) = lone(policy, Probe::new);
        ready(&supervisor).await;
        let calls = (0..10).map(|_| act(&probe, |_, _| block(ms(2500))));
        let calls = futures_util::future::join_all(calls);
        let stall = async {
            tokio::time::sleep(ms(50)).await;
            block(ms(1200));
        };
        let (answers, ()) = futures_util::join!(calls, stall);
        assert!(answers.iter().all(Result::is_err), "{answers:?}");
        // Those that were late did not count; these few on time may.
        while let Err(error) = probe.call(Ping).await {
            assert!(matches!(error, CallError::Timeout { .. }), "{error:?}");
        }
        assert_eq!(generation(&supervisor, "probe"), 1);
        supervisor.halt().await;
    });
}

#[test]
fn a_flood_of_words_does_not_blind_the_supervisor() {
    run(async {
        let lifeline = Arc::new(std::sync::Mutex::new(None));
        let kept = Arc::clone(&lifeline);
        let factory = move |life: Lifeline| {
            kept.lock().unwrap().get_or_insert(life.clone());
            Probe::new(life)
        };
        let (supervisor, probe) = lone(impatient(), factory);
        ready(&supervisor).await;
        let life: Lifeline = lifeline.lock().unwrap().clone().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let talkers: Vec<_> = (0..2)
            .map(|_| {
                let (life, stop) = (life.clone(), Arc::clone(&stop));
                let talk = move || {
                    let mut version = 0;
                    while !stop.load(SeqCst) {
                        version += 1;
                        life.ready(Serving::default().version(version));
                    }
                };
                thread::Builder::new().spawn(talk).unwrap()
            })
            .collect();
        let stuck = act(&probe, |_, _| block(ms(3000))).await;
        assert!(matches!(stuck, Err(CallError::Lost { .. })), "{stuck:?}");
        in_life(&supervisor, "probe", 2).await;
        assert_eq!(restarts(&probe, Cause::Hang), 1);
        stop.store(true, SeqCst);
        talkers
            .into_iter()
            .for_each(|talker| talker.join().unwrap());
        supervisor.halt().await;
    });
}
