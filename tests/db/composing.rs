//! Composition of a transaction: its errors, hooks, follow-ups of the commit.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use diesel_async::RunQueryDsl;
use dotmac_platform::{
    db::{Connection, DbError, Querying, Retry, Target, Tx},
    on,
};

use crate::{
    rig::{Rig, config, count, insert, on_both, postgres},
    support::Postgres,
};

/// A service's error.
#[derive(Debug)]
enum NotesError {
    Empty,
    Database(DbError),
}

impl From<DbError> for NotesError {
    fn from(error: DbError) -> Self {
        Self::Database(error)
    }
}

#[actix_web::test]
async fn a_rule_that_is_broken_rolls_back_and_its_error_comes_out_as_it_is() {
    on_both(
        |_| {},
        async |rig| {
            let add = async |id, text: &'static str| {
                rig.db
                    .transaction("add", async move |tx| {
                        insert(tx, id).await?;
                        if text.is_empty() {
                            return Err(NotesError::Empty);
                        }
                        Ok(id)
                    })
                    .await
            };
            assert!(matches!(add(1, "").await, Err(NotesError::Empty)));
            assert_eq!(count(&rig.db).await, 0);
            assert!(matches!(add(1, "text").await, Ok(1)));
            let again = add(1, "text").await;
            assert!(
                matches!(&again, Err(NotesError::Database(error)) if error.is_unique_violation()),
                "{again:?}"
            );
            assert_eq!(count(&rig.db).await, 1);
        },
    )
    .await;
}

/// The connection observes a conflict, even if the work ignores it.
#[actix_web::test]
async fn a_conflict_is_tried_again_though_the_work_has_another_name_for_it() {
    #[derive(Debug)]
    struct Opaque;
    impl From<DbError> for Opaque {
        fn from(_: DbError) -> Self {
            Self
        }
    }
    let server = Postgres::start().await;
    let rig = Rig::ready(config(Target::Postgres(postgres(&server))))
        .await
        .with_notes()
        .await;
    let raise = "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '40001'; END $$";
    let tries = Arc::new(AtomicU32::new(0));
    let conflicting = |goes_by_macro: bool| {
        let tries = Arc::clone(&tries);
        rig.db
            .retrying_transaction("meet", Retry::new().tries(3), async move |tx| {
                let query = diesel::sql_query(raise);
                if tries.fetch_add(1, Relaxed) < 2 {
                    let failed = match tx.connection() {
                        c if goes_by_macro => on!(c, |c| query.execute(c).await).is_err(),
                        Connection::Postgres(c) => query.execute(&mut **c).await.is_err(),
                        Connection::Sqlite(_) => unreachable!(),
                    };
                    assert!(failed);
                    return Err(Opaque);
                }
                insert(tx, 1).await?;
                Ok(())
            })
    };
    conflicting(true).await.unwrap();
    assert_eq!(AtomicU32::load(&tries, Relaxed), 3);
    rig.run("DELETE FROM note").await;
    tries.store(0, Relaxed);
    conflicting(false).await.unwrap();
    assert_eq!(AtomicU32::load(&tries, Relaxed), 3);

    // An error of its own without a conflict is no reason for another try.
    tries.store(0, Relaxed);
    let counted = Arc::clone(&tries);
    let refused = rig
        .db
        .retrying_transaction("refuse", Retry::new(), async move |_| {
            counted.fetch_add(1, Relaxed);
            Err::<(), _>(Opaque)
        });
    assert!(refused.await.is_err());
    assert_eq!(AtomicU32::load(&tries, Relaxed), 1);
    rig.supervisor.halt().await;
}

/// As a trait outside would extend the transaction: collects ids, and writes them when it is about to commit.
#[derive(Default)]
struct Collected(Vec<i64>);

fn collect(tx: &mut Tx, id: i64) {
    tx.slot::<Collected>().0.push(id);
    tx.before_commit("collected", async |tx| {
        for id in std::mem::take(&mut tx.slot::<Collected>().0) {
            insert(tx, id).await?;
        }
        Ok(())
    });
}

#[actix_web::test]
async fn what_is_collected_is_written_before_the_commit_also_what_another_hook_adds() {
    on_both(
        |_| {},
        async |rig| {
            let runs = Arc::new(AtomicU32::new(0));
            let counted = Arc::clone(&runs);
            let written = rig.db.transaction("collect", async move |tx| {
                collect(tx, 1);
                collect(tx, 2);
                for _ in 0..3 {
                    let counted = Arc::clone(&counted);
                    tx.before_commit("once", async move |tx| {
                        counted.fetch_add(1, Relaxed);
                        // After the first hook has run.
                        collect(tx, 3);
                        Ok(())
                    });
                }
                Ok::<_, DbError>(())
            });
            written.await.unwrap();
            assert_eq!(count(&rig.db).await, 3);
            assert_eq!(AtomicU32::load(&runs, Relaxed), 1);

            let refused = rig.db.transaction("collect twice", async |tx| {
                insert(tx, 4).await?;
                collect(tx, 1);
                Ok::<_, DbError>(())
            });
            let refused = refused.await.unwrap_err();
            assert!(refused.is_unique_violation(), "{refused:?}");
            assert_eq!(count(&rig.db).await, 3);
        },
    )
    .await;
}

#[actix_web::test]
async fn what_follows_a_commit_is_done_after_it_and_never_after_a_rollback() {
    on_both(
        |_| {},
        async |rig| {
            let done = Arc::new(Mutex::new(Vec::new()));
            let work = |id: i64, fails: bool| {
                let done = Arc::clone(&done);
                rig.db.transaction("follow", async move |tx| {
                    let later = Arc::clone(&done);
                    tx.after_commit(move || later.lock().unwrap().push(id));
                    insert(tx, id).await?;
                    assert!(!done.lock().unwrap().contains(&id));
                    if fails {
                        return Err(NotesError::Empty);
                    }
                    Ok(())
                })
            };
            work(1, false).await.unwrap();
            work(2, true).await.unwrap_err();
            work(1, false).await.unwrap_err();
            assert_eq!(*done.lock().unwrap(), [1]);
            assert_eq!(Arc::strong_count(&done), 1, "the rest is dropped");

            let panics = rig.db.transaction("panic afterwards", async |tx| {
                tx.after_commit(|| panic!("after the commit"));
                insert(tx, 3).await
            });
            panics.await.unwrap();
            assert_eq!(count(&rig.db).await, 2);
        },
    )
    .await;
}
