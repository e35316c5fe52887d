//! What counts as a hang, and what is done about it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Instant,
};

use actix::prelude::*;
use dotmac_supervision::{
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
        let (stuck, waited) = tokio::join!(stuck, futures_util::future::join_all(waiting));
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
fn a_flood_of_words_and_requests_does_not_blind_the_supervisor() {
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
        act(&probe, |_, context| {
            context.run_later(ms(20), |_, _| block(ms(6000)));
        })
        .await
        .unwrap();
        // From their own threads: the supervisor's, which is this one, has its hands full.
        let talkers: Vec<_> = (0..2)
            .map(|_| {
                let (life, supervisor, probe) = (life.clone(), supervisor.clone(), probe.clone());
                let talk = move || {
                    let until = Instant::now() + ms(4000);
                    let mut version = 0;
                    while restarts(&probe, Cause::Hang) == 0 && Instant::now() < until {
                        version += 1;
                        life.ready(Serving::default().version(version));
                        for _ in 0..20 {
                            supervisor.drain();
                        }
                    }
                    Instant::now() < until
                };
                thread::Builder::new().spawn(talk).unwrap()
            })
            .collect();
        until("the end of the flood", || {
            talkers.iter().all(thread::JoinHandle::is_finished)
        })
        .await;
        for talker in talkers {
            assert!(talker.join().unwrap(), "the hang was seen during the flood");
        }
        in_life(&supervisor, "probe", 2).await;
        supervisor.halt().await;
    });
}
