//! Transactions that meet: conflicts, retries, limits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::{
    db::{Connection, Db, DbError, Querying as _, Retry, Target},
    insert_all, on,
};

use crate::{
    rig::{Rig, config, is_postgres, note, on_both, postgres},
    support::Postgres,
};

#[derive(Clone, Insertable)]
#[diesel(table_name = note)]
struct Row {
    id: i64,
    text: String,
}

async fn fill(db: &Db, rows: i64) -> usize {
    db.transaction("fill", async move |c| {
        let rows = (0..rows).map(|id| Row {
            id,
            text: "0".into(),
        });
        insert_all!(c, note::table, rows.collect())
    })
    .await
    .unwrap()
}

async fn read(c: &mut Connection, id: i64) -> Result<i64, DbError> {
    let text: String = on!(c, |c| note::table
        .find(id)
        .select(note::text)
        .first(c)
        .await)?;
    Ok(text.parse().unwrap())
}

async fn write(c: &mut Connection, id: i64, value: i64) -> Result<usize, DbError> {
    let change = note::text.eq(value.to_string());
    on!(c, |c| diesel::update(note::table.find(id))
        .set(change)
        .execute(c)
        .await)
}

#[actix_web::test]
async fn many_rows_are_inserted_by_one_call_on_both() {
    on_both(
        |_| {},
        async |rig| {
            assert_eq!(fill(&rig.db, 2500).await, 2500);
            let count: i64 = rig
                .db
                .read("count", async |c| {
                    on!(c, |c| note::table.count().get_result(c).await)
                })
                .await
                .unwrap();
            assert_eq!(count, 2500);
        },
    )
    .await;
}

/// Without a serializable isolation updates would be lost; without retries the clients would fail.
#[actix_web::test]
async fn transactions_that_meet_are_run_again_and_lose_nothing() {
    on_both(
        |_| {},
        async |rig| {
            fill(&rig.db, 1).await;
            let clients = (0..8).map(|_| {
                let db = rig.db.clone();
                async move {
                    for _ in 0..5 {
                        let retry = Retry::serializable().tries(20);
                        db.retrying_transaction("count up", retry, async |c| {
                            let value = read(c, 0).await?;
                            write(c, 0, value + 1).await
                        })
                        .await
                        .unwrap();
                    }
                }
            });
            futures_util::future::join_all(clients).await;
            let value = rig.db.read("read", async |c| read(c, 0).await);
            assert_eq!(value.await.unwrap(), 40);
        },
    )
    .await;
}

#[actix_web::test]
async fn a_deadlock_is_a_conflict_and_a_retry_gets_past_it() {
    let server = Postgres::start().await;
    let rig = Rig::ready(config(Target::Postgres(postgres(&server))))
        .await
        .with_notes()
        .await;
    fill(&rig.db, 2).await;
    let tries = Arc::new(AtomicU32::new(0));
    let holding = Arc::new(AtomicU32::new(0));
    let cross = |first: i64, second: i64| {
        let (db, tries, holding) = (rig.db.clone(), Arc::clone(&tries), Arc::clone(&holding));
        async move {
            db.retrying_transaction("cross", Retry::new(), async move |c| {
                tries.fetch_add(1, Relaxed);
                let value = read(c, first).await?;
                write(c, first, value + 1).await?;
                // Both hold what the other wants, the first time.
                holding.fetch_add(1, Relaxed);
                while AtomicU32::load(&holding, Relaxed) < 2 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                let value = read(c, second).await?;
                write(c, second, value + 1).await
            })
            .await
        }
    };
    let (one, other) = tokio::join!(cross(0, 1), cross(1, 0));
    one.unwrap();
    other.unwrap();
    assert!(AtomicU32::load(&tries, Relaxed) > 2, "they did not meet");
    rig.supervisor.halt().await;
}

#[actix_web::test]
async fn a_conflict_that_does_not_end_is_returned_after_the_last_try() {
    on_both(
        |_| {},
        async |rig| {
            let tries = Arc::new(AtomicU32::new(0));
            let counted = Arc::clone(&tries);
            let ended = rig
                .db
                .retrying_transaction("in vain", Retry::new().tries(3), async move |c| {
                    counted.fetch_add(1, Relaxed);
                    // The database's error, simulated; SQLite has no such error.
                    if matches!(c.connection(), Connection::Sqlite(_)) {
                        return Ok(());
                    }
                    let say = "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '40001'; END $$";
                    on!(c, |c| diesel::sql_query(say).execute(c).await).map(drop)
                })
                .await;
            match ended {
                Ok(()) => assert_eq!(AtomicU32::load(&tries, Relaxed), 1),
                Err(error) => {
                    assert!(matches!(error, DbError::Conflict(_)), "{error:?}");
                    assert_eq!(AtomicU32::load(&tries, Relaxed), 3);
                    assert!(error.retry_after().is_some());
                }
            }
        },
    )
    .await;
}

#[actix_web::test]
async fn no_transaction_is_open_for_longer_than_it_may() {
    let adapt = |config: &mut dotmac_platform::db::Config| {
        config.transaction_timeout = Duration::from_secs(2);
    };
    on_both(adapt, async |rig: &Rig| {
        fill(&rig.db, 1).await;
        let held = rig.db.transaction("hold", async |c| {
            write(c, 0, 1).await?;
            tokio::time::sleep(Duration::from_secs(20)).await;
            Ok::<_, DbError>(())
        });
        let began = std::time::Instant::now();
        let ended = held.await.unwrap_err();
        let is_overrun = matches!(ended, DbError::Overran { limit, .. } if limit.as_secs() == 2);
        assert!(is_overrun, "{ended:?}");
        assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
        // None of its locks is left.
        rig.db
            .transaction("write", async |c| write(c, 0, 2).await)
            .await
            .unwrap();
        if is_postgres(&rig.db).await {
            let slow = rig.db.transaction("slow", async |c| {
                on!(c, |c| diesel::sql_query("SELECT pg_sleep(30)")
                    .execute(c)
                    .await)
            });
            let slow = slow.await.unwrap_err();
            assert!(matches!(slow, DbError::TimedOut(_)), "{slow:?}");
        }
    })
    .await;
}

#[actix_web::test]
async fn the_server_gives_up_slow_statements_long_waits_and_idle_transactions() {
    let server = Postgres::start().await;
    let mut settings = config(Target::Postgres(postgres(&server)));
    settings.statement_timeout = Duration::from_secs(2);
    settings.lock_timeout = Duration::from_millis(200);
    settings.idle_in_transaction_timeout = Duration::from_secs(2);
    let rig = Rig::ready(settings).await.with_notes().await;
    fill(&rig.db, 1).await;

    let slow = rig.db.run("slow", async |c| {
        on!(c, |c| diesel::sql_query("SELECT pg_sleep(30)")
            .execute(c)
            .await)
    });
    let slow = slow.await.unwrap_err();
    assert!(matches!(slow, DbError::TimedOut(_)), "{slow:?}");

    let (held, refused) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (holds, until) = (Arc::clone(&held), Arc::clone(&refused));
    let held_work = rig.db.transaction("hold", async move |c| {
        write(c, 0, 1).await?;
        holds.store(1, Relaxed);
        while AtomicU32::load(&until, Relaxed) == 0 {
            // Not idle, which has its own limit.
            on!(c, |c| diesel::sql_query("SELECT pg_sleep(0.01)")
                .execute(c)
                .await)?;
        }
        Ok::<_, DbError>(())
    });
    let waits = async {
        while AtomicU32::load(&held, Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let ended = rig.db.run("wait", async |c| write(c, 0, 2).await).await;
        refused.store(1, Relaxed);
        ended
    };
    let (held, waited) = tokio::join!(held_work, waits);
    held.unwrap();
    let waited = waited.unwrap_err();
    assert!(matches!(waited, DbError::TimedOut(_)), "{waited:?}");

    let idle = rig.db.transaction("idle", async |c| {
        write(c, 0, 3).await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        write(c, 0, 4).await
    });
    let idle = idle.await.unwrap_err();
    assert!(matches!(idle, DbError::ConnectionLost(_)), "{idle:?}");
    let value = rig.db.read("read", async |c| read(c, 0).await).await;
    assert_eq!(value.unwrap(), 1);
    rig.supervisor.halt().await;
}
