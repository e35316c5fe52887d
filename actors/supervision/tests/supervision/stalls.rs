//! What must not be taken for a hang: an actor that is busy or slow, a process that was paused as a whole.

use std::time::{Duration, Instant};

use actix::prelude::*;
use dotmac_supervision::{CallError, ChildSpec, Lifeline, Policy, Serving, SupervisionTree};

use crate::support::*;

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
            let (never, answered) = tokio::join!(futures_util::future::join_all(never), answered);
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
                    let work = Instant::now() + Duration::from_micros(100);
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
fn a_stall_of_the_supervisor_restarts_no_child() {
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
fn a_stall_of_the_whole_process_counts_against_no_child() {
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
fn callers_that_were_paused_themselves_count_no_time_out() {
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
        let (answers, ()) = tokio::join!(calls, stall);
        assert!(answers.iter().all(Result::is_err), "{answers:?}");
        // Those that were late did not count; these few on time may.
        while let Err(error) = probe.call(Ping).await {
            assert!(matches!(error, CallError::Timeout { .. }), "{error:?}");
        }
        assert_eq!(generation(&supervisor, "probe"), 1);
        supervisor.halt().await;
    });
}
