//! When a child follows one that it needs.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use actix::prelude::*;
use dotmac_supervision::{
    ActorHandle, Cause, ChildSpec, ComponentHandle, Lifeline, Need, Serving, SupervisionTree,
    SupervisorHandle,
};

use crate::support::*;

struct Pair {
    supervisor: SupervisorHandle,
    secrets: ActorHandle<Probe>,
    db: ActorHandle<Probe>,
    /// What the next life of `secrets` serves.
    version: Arc<AtomicU64>,
    diary: Diary,
}

async fn pair(follow: impl Fn(&ComponentHandle) -> Need) -> Pair {
    let (version, diary) = (Arc::new(AtomicU64::new(1)), Diary::default());
    let mut tree = SupervisionTree::new(policy()).unwrap();
    let (current, book) = (Arc::clone(&version), diary.clone());
    let secrets = ChildSpec::new("secrets", move |life: Lifeline| {
        let (book, life_of) = (book.clone(), life.generation());
        book.note(format!("secrets {life_of} begun"));
        Probe::serving(life, Serving::default().version(current.load(SeqCst)))
            .on_drop(move || book.note(format!("secrets {life_of} gone")))
    });
    let secrets = tree.add(secrets.required()).unwrap();
    let book = diary.clone();
    let db = ChildSpec::new("db", move |life: Lifeline| {
        let (book, life_of) = (book.clone(), life.generation());
        // Slower to go than the backoff of the other is long.
        Probe::new(life)
            .on_shutdown(|_, context| {
                context.run_later(ms(120), |_, context| context.stop());
            })
            .on_drop(move || book.note(format!("db {life_of} gone")))
    });
    let db = tree.add(db.required().needs(follow(&secrets))).unwrap();
    let supervisor = tree.start();
    ready(&supervisor).await;
    Pair {
        supervisor,
        secrets,
        db,
        version,
        diary,
    }
}

impl Pair {
    async fn crash_secrets(&self) {
        act(&self.secrets, |_, _| panic!("on purpose")).await.ok();
        in_life(&self.supervisor, "secrets", 2).await;
    }

    /// `db` is where it was, also after everything had time to move.
    async fn db_stayed(&self) {
        tokio::time::sleep(ms(150)).await;
        assert_eq!(generation(&self.supervisor, "db"), 1);
        assert_eq!(self.db.call(Ping).await, Ok(1));
        self.supervisor.halt().await;
    }

    async fn db_followed(&self) {
        in_life(&self.supervisor, "db", 2).await;
        assert_eq!(self.db.call(Ping).await, Ok(2));
        assert_eq!(restarts(&self.db, Cause::Dependency), 1);
        self.supervisor.halt().await;
    }
}

#[test]
fn always_means_stopped_before_the_other_begins_again() {
    run(async {
        let pair = pair(ComponentHandle::always).await;
        pair.crash_secrets().await;
        in_life(&pair.supervisor, "db", 2).await;
        assert_eq!(
            pair.diary.entries(),
            [
                "secrets 1 begun",
                "secrets 1 gone",
                "db 1 gone",
                "secrets 2 begun"
            ]
        );
        assert_eq!(restarts(&pair.db, Cause::Dependency), 1);
        pair.supervisor.halt().await;
    });
}

#[test]
fn on_change_stays_while_the_version_is_the_same() {
    run(async {
        let pair = pair(ComponentHandle::on_change).await;
        pair.crash_secrets().await;
        pair.db_stayed().await;
    });
}

#[test]
fn on_change_follows_a_restart_that_brought_another_version() {
    run(async {
        let pair = pair(ComponentHandle::on_change).await;
        pair.version.store(2, SeqCst);
        pair.crash_secrets().await;
        pair.db_followed().await;
    });
}

#[test]
fn on_change_follows_another_version_without_a_restart() {
    run(async {
        let pair = pair(ComponentHandle::on_change).await;
        act(&pair.secrets, |probe, _| {
            probe.life.ready(Serving::default().version(2))
        })
        .await
        .unwrap();
        assert_eq!(generation(&pair.supervisor, "secrets"), 1);
        pair.db_followed().await;
    });
}

#[test]
fn to_start_waits_for_the_other_and_follows_nothing() {
    run(async {
        let pair = pair(ComponentHandle::to_start).await;
        let order = pair.diary.entries();
        assert_eq!(order, ["secrets 1 begun"]);
        pair.version.store(2, SeqCst);
        pair.crash_secrets().await;
        pair.db_stayed().await;
    });
}

#[test]
fn in_order_follows_nothing() {
    run(async {
        let pair = pair(ComponentHandle::in_order).await;
        pair.version.store(2, SeqCst);
        pair.crash_secrets().await;
        pair.db_stayed().await;
    });
}

#[test]
fn a_restart_on_request_takes_along_those_that_always_follow() {
    run(async {
        let pair = pair(ComponentHandle::always).await;
        assert!(pair.supervisor.restart("nobody").is_err());
        pair.supervisor.restart("secrets").unwrap();
        in_life(&pair.supervisor, "secrets", 2).await;
        in_life(&pair.supervisor, "db", 2).await;
        assert_eq!(restarts(&pair.secrets, Cause::Requested), 1);
        assert_eq!(
            pair.diary.entries(),
            [
                "secrets 1 begun",
                "db 1 gone",
                "secrets 1 gone",
                "secrets 2 begun"
            ]
        );
        pair.supervisor.halt().await;
    });
}

#[test]
fn a_restart_on_request_does_not_wait_for_those_that_follow_no_restart() {
    run(async {
        let kinds: [fn(&ComponentHandle) -> Need; 3] = [
            ComponentHandle::on_change,
            ComponentHandle::to_start,
            ComponentHandle::in_order,
        ];
        for follow in kinds {
            let pair = pair(follow).await;
            pair.supervisor.restart("secrets").unwrap();
            in_life(&pair.supervisor, "secrets", 2).await;
            pair.db_stayed().await;
        }
    });
}
