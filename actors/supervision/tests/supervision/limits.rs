//! When a supervisor gives up, and what never grows.

use std::time::Duration;

use dotmac_supervision::{
    ChildSpec, Escalation, Lifeline, Policy, PolicyError, Reason, Serving, State, SupervisionTree,
    SupervisorHandle, TreeError,
};

use crate::support::*;

async fn escalated(supervisor: &SupervisorHandle) -> Escalation {
    tokio::time::timeout(ms(20_000), supervisor.escalated())
        .await
        .expect("no escalation")
}

#[test]
fn more_faults_than_allowed_escalate() {
    run(async {
        let (supervisor, probe) = lone(policy(), |life| {
            Probe::starting(life, |_, _| panic!("on purpose"))
        });
        let expected = Escalation::Intensity {
            child: "probe",
            reason: Reason::PANICKED,
            intensity: policy().intensity,
            period: policy().period,
        };
        assert_eq!(escalated(&supervisor).await, expected);
        let board = board(&supervisor, "failed", |board| {
            board.component("probe").unwrap().state == State::Failed
        })
        .await;
        let component = board.component("probe").unwrap();
        assert_eq!(component.reason, Some(Reason::PANICKED));
        assert_eq!(component.generation, 6, "five restarts were allowed");
        tokio::time::sleep(ms(100)).await;
        assert_eq!(generation(&supervisor, "probe"), 6, "and there is no sixth");
        assert!(!probe.is_serving());
        supervisor.halt().await;
    });
}

#[test]
fn what_happens_upstream_does_not_bring_escalation_nearer() {
    run(async {
        let policy = Policy {
            intensity: 2,
            ..policy()
        };
        let mut tree = SupervisionTree::new(policy).unwrap();
        let child = ChildSpec::new("twice unlucky", |life| {
            Probe::starting(life, |probe, _| match probe.life.generation() {
                1..=9 => probe.life.fail(Reason::UNREACHABLE, "nobody at home"),
                10 | 11 => panic!("on purpose"),
                _ => probe.life.ready(Serving::default()),
            })
        });
        tree.add(child).unwrap();
        let supervisor = tree.start();
        in_life(&supervisor, "twice unlucky", 12).await;
        // Nor does it lengthen the delays that the check of the policy counted upon.
        assert!(logged(&[
            "`twice unlucky`",
            "cause=\"panic\"",
            "actor.generation=10",
            "backoff_ms=0"
        ]));
        supervisor.halt().await;
    });
}

#[test]
fn more_threads_than_allowed_that_do_not_end_escalate() {
    run(async {
        let policy = Policy {
            max_leaked_threads: 1,
            ..impatient()
        };
        let (supervisor, _) = lone(policy, |life| Probe::starting(life, |_, _| block(ms(4000))));
        let expected = Escalation::LeakedThreads { leaked: 2 };
        assert_eq!(escalated(&supervisor).await, expected);
        board(&supervisor, "both threads to end after all", |board| {
            board.leaked_threads == 0
        })
        .await;
        supervisor.halt().await;
    });
}

#[test]
fn an_essential_child_that_never_serves_escalates_with_its_own_reason() {
    const SEALED: Reason = Reason::new("sealed");
    run(async {
        let policy = Policy {
            start_timeout: ms(200),
            ..policy()
        };
        let mut tree = SupervisionTree::new(policy).unwrap();
        let vault = ChildSpec::new("vault", |life| {
            Probe::starting(life, |probe, context| {
                use actix::AsyncContext;
                probe.life.unavailable(SEALED);
                context.run_later(ms(900), |probe, _| probe.life.ready(Serving::default()));
            })
        });
        let vault = tree.add(vault.essential()).unwrap();
        let supervisor = tree.start();
        let expected = Escalation::NotStarted {
            child: "vault",
            reason: SEALED,
            why: None,
        };
        assert_eq!(escalated(&supervisor).await, expected);
        let board = board(&supervisor, "failed", |board| {
            board.component("vault").unwrap().state == State::Failed
        })
        .await;
        assert_eq!(board.component("vault").unwrap().reason, Some(SEALED));
        tokio::time::sleep(ms(1200)).await;
        assert!(!vault.is_serving(), "what was given up does not come back");
        supervisor.halt().await;
    });
}

#[test]
fn an_essential_child_that_served_once_may_be_away_for_longer() {
    run(async {
        let policy = Policy {
            start_timeout: ms(200),
            ..policy()
        };
        let mut tree = SupervisionTree::new(policy).unwrap();
        let vault = ChildSpec::new("vault", |life: Lifeline| Probe::new(life));
        let vault = tree.add(vault.essential()).unwrap();
        let supervisor = tree.start();
        ready(&supervisor).await;
        act(&vault, |probe, _| {
            probe.life.unavailable(Reason::UNREACHABLE)
        })
        .await
        .unwrap();
        let escalated = tokio::time::timeout(ms(600), supervisor.escalated()).await;
        assert!(escalated.is_err(), "{escalated:?}");
        supervisor.halt().await;
    });
}

#[test]
fn a_child_that_can_never_start_escalates_at_once() {
    run(async {
        let (supervisor, _) = lone(policy(), |life| {
            Probe::starting(life, |probe, _| {
                probe
                    .life
                    .cannot_start(Reason::new("damaged"), "not a database");
            })
        });
        let expected = Escalation::NotStarted {
            child: "probe",
            reason: Reason::new("damaged"),
            why: Some("not a database".to_owned()),
        };
        assert_eq!(escalated(&supervisor).await, expected);
        assert!(logged(&["giving up", "damaged: not a database"]));
        assert!(!logged(&["restarting", "not a database"]));
        assert_eq!(generation(&supervisor, "probe"), 1);
        supervisor.halt().await;
    });
}

#[test]
fn a_policy_that_can_never_escalate_is_refused_for_the_tree_and_for_a_child() {
    let hopeless = Policy {
        period: ms(50),
        backoff_min: ms(20),
        ..policy()
    };
    let is_refused = |error: &TreeError| {
        matches!(
            error,
            TreeError::Policy {
                source: PolicyError::EscalationUnreachable { .. },
                ..
            }
        )
    };
    let refused = SupervisionTree::new(hopeless.clone()).map(|_| ());
    assert!(is_refused(&refused.unwrap_err()));
    let mut tree = SupervisionTree::new(policy()).unwrap();
    let refused = tree.add(ChildSpec::new("probe", Probe::new).policy(hopeless));
    assert!(is_refused(&refused.unwrap_err()));
}

#[test]
fn the_loss_of_the_supervisor_is_an_escalation() {
    let (tell, reported) = std::sync::mpsc::channel();
    let system = std::thread::Builder::new()
        .spawn(move || {
            run(async {
                let (supervisor, _) = lone(policy(), Probe::new);
                ready(&supervisor).await;
                tell.send(supervisor).unwrap();
            });
        })
        .unwrap();
    let supervisor = reported.recv().unwrap();
    system.join().unwrap();
    run(async {
        assert_eq!(escalated(&supervisor).await, Escalation::SupervisorLost);
        let report = tokio::time::timeout(ms(20_000), supervisor.halt())
            .await
            .unwrap();
        assert!(
            report.children.is_empty(),
            "and no caller waits for its report"
        );
    });
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn two_hundred_restarts_leave_no_thread_behind() {
    if in_own_process("limits::two_hundred_restarts_leave_no_thread_behind").is_some() {
        return;
    }
    run(async {
        let policy = Policy {
            intensity: 1_000,
            period: Duration::from_secs(3_600),
            backoff_min: Duration::ZERO,
            backoff_max: Duration::ZERO,
            ..policy()
        };
        let (supervisor, probe) = lone(policy, Probe::new);
        in_life(&supervisor, "probe", 1).await;
        let before = threads();
        for life in 1..=200 {
            match life % 4 {
                0 => act(&probe, |_, _| panic!("on purpose")).await.ok(),
                1 => act(&probe, |_, context| actix::ActorContext::stop(context))
                    .await
                    .ok(),
                2 => act(&probe, |_, _| {
                    actix_rt::Arbiter::current().stop();
                })
                .await
                .ok(),
                _ => supervisor.restart("probe").ok(),
            };
            in_life(&supervisor, "probe", life + 1).await;
        }
        until("the last threads to end", || threads() <= before + 1).await;
        supervisor.halt().await;
    });
}

/// The compiler reports it before it looks for any dependency, so the module's head is enough.
fn refusal_under(strategy: &str) -> bool {
    let head = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs");
    let out = std::process::Command::new("rustc")
        .args([
            "--edition",
            "2024",
            "--crate-type",
            "lib",
            "--emit",
            "metadata",
        ])
        .args(["-o", "/dev/null", "-C", strategy, head])
        .output()
        .unwrap();
    String::from_utf8_lossy(&out.stderr).contains("supervision needs `panic = \"unwind\"`")
}

#[test]
fn a_build_that_aborts_on_panic_is_refused() {
    assert!(refusal_under("panic=abort"));
    assert!(!refusal_under("panic=unwind"));
}
