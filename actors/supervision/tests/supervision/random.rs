//! For any events in any order: the board is correct, and a halt ends.

use std::{io, sync::Arc};

use dotmac_supervision::{
    ActorHandle, ChildSpec, Policy, Readiness, Reason, Schedule, Serving, State, SupervisionTree,
    SupervisorHandle, WorkerContext, WorkerSpec,
};
use proptest::prelude::*;

use crate::support::*;

#[derive(Clone, Copy, Debug)]
enum Action {
    Panic,
    Stop,
    GiveUp,
    LoseThread,
    Unavailable,
    Degraded,
    Ready(u64),
    Restart,
    Pause,
}

fn actions() -> impl Strategy<Value = Vec<(usize, Action)>> {
    let action = prop_oneof![
        Just(Action::Panic),
        Just(Action::Stop),
        Just(Action::GiveUp),
        Just(Action::LoseThread),
        Just(Action::Unavailable),
        Just(Action::Degraded),
        (0u64..3).prop_map(Action::Ready),
        Just(Action::Restart),
        Just(Action::Pause),
    ];
    proptest::collection::vec((0usize..4, action), 0..25)
}

const WORKER: &str = "sweep";

/// A worker, and the way to have it do something.
fn worker() -> (WorkerSpec, tokio::sync::mpsc::UnboundedSender<Action>) {
    let (orders, taken) = tokio::sync::mpsc::unbounded_channel();
    let taken = Arc::new(tokio::sync::Mutex::new(taken));
    let spec = WorkerSpec::new(WORKER, Schedule::Every(ms(1)), move |context| {
        let taken = Arc::clone(&taken);
        async move {
            let mut taken = taken.lock().await;
            tokio::select! {
                () = context.stopping() => Ok(()),
                // It is well again with its first good run, so there has to be one.
                () = tokio::time::sleep(ms(5)) => Ok(()),
                Some(action) = taken.recv() => work(&context, action).await,
            }
        }
    });
    (spec, orders)
}

async fn work(context: &WorkerContext, action: Action) -> io::Result<()> {
    let life = context.lifeline();
    match action {
        Action::Panic => panic!("on purpose"),
        Action::Stop | Action::LoseThread => return Err(io::Error::other("on purpose")),
        Action::GiveUp => life.fail(Reason::UNREACHABLE, "no"),
        Action::Unavailable => {
            life.unavailable(Reason::UNREACHABLE);
            tokio::time::sleep(ms(10)).await;
            life.ready(Serving::default());
        }
        Action::Degraded => life.degraded(Reason::UNREACHABLE, Serving::default()),
        Action::Ready(version) => life.ready(Serving::default().version(version)),
        Action::Restart | Action::Pause => {}
    }
    Ok(())
}

async fn commit(
    supervisor: &SupervisorHandle,
    children: &[ActorHandle<Probe>],
    orders: &tokio::sync::mpsc::UnboundedSender<Action>,
    (child, action): (usize, Action),
) {
    let Some(probe) = children.get(child) else {
        orders.send(action).unwrap();
        if let Action::Restart = action {
            supervisor.restart(WORKER).unwrap();
        }
        return;
    };
    let done = match action {
        Action::Panic => act(probe, |_, _| panic!("on purpose")).await,
        Action::Stop => act(probe, |_, context| actix::ActorContext::stop(context)).await,
        Action::GiveUp => act(probe, |probe, _| probe.life.fail(Reason::UNREACHABLE, "no")).await,
        Action::LoseThread => {
            act(probe, |_, _| {
                actix_rt::Arbiter::current().stop();
            })
            .await
        }
        Action::Unavailable => {
            act(probe, |probe, context| {
                use actix::AsyncContext;
                probe.life.unavailable(Reason::UNREACHABLE);
                context.run_later(ms(10), |probe, _| probe.life.ready(Serving::default()));
            })
            .await
        }
        Action::Degraded => {
            act(probe, |probe, _| {
                probe.life.degraded(Reason::UNREACHABLE, Serving::default());
            })
            .await
        }
        Action::Ready(version) => {
            act(probe, move |probe, _| {
                probe.life.ready(Serving::default().version(version));
            })
            .await
        }
        Action::Restart => {
            supervisor.restart(probe.name()).unwrap();
            Ok(())
        }
        Action::Pause => {
            tokio::time::sleep(ms(15)).await;
            Ok(())
        }
    };
    // Most actions are done to a child that is down already, or end it before it answers.
    done.ok();
}

fn live_through(actions: &[(usize, Action)], halt_at_once: bool) {
    run(async {
        let policy = Policy {
            intensity: 1_000,
            period: ms(1_000_000),
            backoff_max: ms(5),
            ..policy()
        };
        let mut tree = SupervisionTree::new(policy).unwrap();
        let secrets = tree
            .add(ChildSpec::new("secrets", Probe::new).required())
            .unwrap();
        let db = ChildSpec::new("db", Probe::new)
            .required()
            .needs(secrets.on_change());
        let db = tree.add(db).unwrap();
        let mail = ChildSpec::new("mail", Probe::new).needs(db.always());
        let mail = tree.add(mail.needs(secrets.in_order())).unwrap();
        let (sweep, orders) = worker();
        tree.add_worker(sweep.required().needs(db.always()))
            .unwrap();
        let children = [secrets, db, mail];
        let supervisor = tree.start();
        for action in actions {
            commit(&supervisor, &children, &orders, *action).await;
            let board = supervisor.board();
            if board.readiness.serves() {
                let down = board
                    .components
                    .iter()
                    .find(|one| one.required && !one.state.serves());
                assert!(down.is_none(), "{board:?}");
            }
        }
        if !halt_at_once {
            // Everybody comes back by himself, and then says ready.
            board(&supervisor, "all to serve", |board| {
                board
                    .components
                    .iter()
                    .all(|component| component.state.serves())
                    && board.readiness.serves()
            })
            .await;
            until("all handles to open", || {
                children.iter().all(ActorHandle::is_serving)
            })
            .await;
            let board = supervisor.board();
            let all_well = board.components.iter().all(|one| one.state == State::Ready);
            assert_eq!(board.readiness == Readiness::Ready, all_well, "{board:?}");
        }
        supervisor.halt().await;
        let board = supervisor.board();
        assert!(
            board
                .components
                .iter()
                .all(|one| one.state == State::Stopped),
            "{board:?}"
        );
        assert_eq!(board.leaked_threads, 0);
        assert!(children.iter().all(|child| !child.is_serving()));
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_tree_heals_and_halts(actions in actions(), halt_at_once: bool) {
        live_through(&actions, halt_at_once);
    }
}
