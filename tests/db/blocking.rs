//! Work that blocks its thread: named, and no reason for others to wait for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use dotmac_platform::{
    db::{Config, Connection, Db, DbError, Share},
    supervision::Board,
};
use tokio::task::JoinHandle;

use crate::{
    rig::{Rig, config, count, insert, is_postgres, on_both, sqlite},
    support::eventually,
};

type Flag = Arc<AtomicBool>;

fn adapt(config: &mut Config) {
    config.statement_timeout = Duration::from_secs(2);
    config.pool_timeout = Duration::from_secs(30);
}

/// Computes, as it were, until it is let go on.
fn block(go_on: &Flag) {
    while !AtomicBool::load(go_on, Relaxed) {
        #[expect(clippy::disallowed_methods, reason = "it blocks on purpose")]
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A transaction that inserts two rows and blocks its thread between them; begun.
async fn blocked_write(db: &Db, go_on: &Flag) -> JoinHandle<Result<(), DbError>> {
    let (begun, go_on) = (Flag::default(), Arc::clone(go_on));
    let has_begun = Arc::clone(&begun);
    let work = db.transaction("stand still", async move |c| {
        insert(c, 1).await?;
        has_begun.store(true, Relaxed);
        block(&go_on);
        insert(c, 2).await?;
        Ok(())
    });
    let work = tokio::spawn(work);
    eventually("the work to begin", || async {
        AtomicBool::load(&begun, Relaxed).then_some(())
    })
    .await;
    work
}

#[actix_web::test]
async fn others_write_although_a_transaction_blocks_its_thread() {
    on_both(adapt, async |rig: &Rig| {
        let go_on = Flag::default();
        let module = rig.db.for_module("notes", Share::HALF).system("test");
        let blocked = blocked_write(&module, &go_on).await;
        rig.until_reason("work_blocked").await;
        // On SQLite once the time of the other one is used up; of the same module.
        let other = module.transaction("other", async |c| insert(c, 3).await);
        other.await.unwrap();
        assert_eq!(count(&rig.db).await, 1);
        go_on.store(true, Relaxed);
        let ended = blocked.await.unwrap();
        // On PostgreSQL nothing waited for it, so it is let go on in time.
        let kept = match is_postgres(&rig.db).await {
            true => {
                ended.unwrap();
                3
            }
            false => {
                let is_overrun = matches!(&ended, Err(DbError::Overran { operation, .. }) if *operation == "stand still");
                assert!(is_overrun, "{ended:?}");
                1
            }
        };
        for id in 4..8 {
            let more = module.transaction("more", async move |c| insert(c, id).await);
            more.await.unwrap();
        }
        assert_eq!(count(&rig.db).await, kept + 4);
        rig.until(is_well).await;
    })
    .await;
}

/// Within its time nothing is taken from it.
#[actix_web::test]
async fn a_transaction_that_blocks_its_thread_for_a_while_is_committed() {
    on_both(adapt, async |rig: &Rig| {
        let go_on = Flag::default();
        let blocked = blocked_write(&rig.db, &go_on).await;
        rig.until_reason("work_blocked").await;
        go_on.store(true, Relaxed);
        blocked.await.unwrap().unwrap();
        assert_eq!(count(&rig.db).await, 2);
    })
    .await;
}

/// Reads that block the two threads that the database has now.
async fn block_both(db: &Db, go_on: &Flag) -> Vec<JoinHandle<Result<(), DbError>>> {
    let mut blocked = Vec::new();
    for _ in 0..2 {
        let (begun, go_on) = (Flag::default(), Arc::clone(go_on));
        let has_begun = Arc::clone(&begun);
        let work = async move |_: &mut Connection| {
            has_begun.store(true, Relaxed);
            block(&go_on);
            Ok::<_, DbError>(())
        };
        blocked.push(tokio::spawn(db.read("stand still", work)));
        eventually("the work to begin", || async {
            AtomicBool::load(&begun, Relaxed).then_some(())
        })
        .await;
    }
    blocked
}

/// What a write comes to once the database takes it again.
async fn write_again(db: &Db, id: i64) {
    eventually("a write", || async {
        let other = db.transaction("other", async move |c| insert(c, id).await);
        let limit = Duration::from_secs(5);
        tokio::time::timeout(limit, other).await.ok()?.ok()
    })
    .await;
}

/// The transaction is under way when others block the threads that it goes on with.
#[actix_web::test]
async fn the_caller_of_work_that_gets_no_thread_does_not_wait_for_ever() {
    let adapt = |config: &mut Config| {
        let second = Duration::from_secs(1);
        config.statement_timeout = second;
        (config.pool_timeout, config.connect_timeout) = (second, second);
    };
    on_both(adapt, async |rig: &Rig| {
        let (go_on, begun) = (Flag::default(), Flag::default());
        let has_begun = Arc::clone(&begun);
        let under_way = rig.db.transaction("under way", async move |c| {
            insert(c, 1).await?;
            has_begun.store(true, Relaxed);
            tokio::time::sleep(Duration::from_millis(500)).await;
            insert(c, 2).await
        });
        let under_way = tokio::spawn(under_way);
        eventually("the transaction to begin", || async {
            AtomicBool::load(&begun, Relaxed).then_some(())
        })
        .await;
        let blocked = block_both(&rig.db, &go_on).await;
        // 1 s for a connection, 1 s to open one, 2 s for the work, and 2 s more.
        let given_up = tokio::time::timeout(Duration::from_secs(20), under_way).await;
        let given_up = given_up.unwrap().unwrap().unwrap_err();
        assert!(
            matches!(given_up, DbError::OutcomeUnknown(_)),
            "{given_up:?}"
        );
        let cause = std::error::Error::source(&given_up).unwrap().to_string();
        assert!(cause.contains("`under way` has had no thread"), "{cause}");
        go_on.store(true, Relaxed);
        for work in blocked {
            // Their time is over as well.
            work.await.unwrap().ok();
        }
        rig.until(is_well).await;
        write_again(&rig.db, 3).await;
    })
    .await;
}

fn is_well(board: &Board) -> bool {
    board.readiness.serves() && board.components[0].reason.is_none()
}

#[actix_web::test]
async fn work_that_blocks_all_threads_is_named_and_others_go_on_with_new_ones() {
    on_both(adapt, async |rig: &Rig| {
        let go_on = Flag::default();
        let mut blocked = block_both(&rig.db, &go_on).await;
        write_again(&rig.db, 1).await;
        rig.until_reason("work_blocked").await;
        assert!(rig.supervisor.board().readiness.serves());
        // Again, on the new ones.
        blocked.extend(block_both(&rig.db, &go_on).await);
        write_again(&rig.db, 2).await;
        assert_eq!(count(&rig.db).await, 2);
        go_on.store(true, Relaxed);
        for work in blocked {
            work.await.unwrap().unwrap();
        }
        rig.until(is_well).await;
        write_again(&rig.db, 3).await;
        assert_eq!(count(&rig.db).await, 3);
    })
    .await;
}

#[actix_web::test]
async fn threads_are_replaced_a_few_times_and_then_the_database_is_not_ready() {
    let directory = tempfile::tempdir().unwrap();
    let rig = Rig::ready(config(sqlite(directory.path()))).await;
    let rig = rig.with_notes().await;
    let go_on = Flag::default();
    let mut blocked = Vec::new();
    for replaced in 0..4 {
        blocked.extend(block_both(&rig.db, &go_on).await);
        write_again(&rig.db, replaced).await;
    }
    blocked.extend(block_both(&rig.db, &go_on).await);
    rig.until(|board| !board.readiness.serves()).await;
    rig.until_reason("work_blocked").await;
    go_on.store(true, Relaxed);
    for work in blocked {
        work.await.unwrap().unwrap();
    }
    rig.until(is_well).await;
    rig.supervisor.halt().await;
}
