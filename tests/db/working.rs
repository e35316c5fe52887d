//! Work on a database: to its end or not at all.

use std::{sync::Arc, time::Duration};

use diesel::{prelude::*, sql_query, sql_types::BigInt};
use diesel_async::RunQueryDsl;
use dotmac_platform::{
    db::{Config, Connection, DbError, PoolSize, Target, prepared},
    on,
};

use tokio::sync::Notify;

use crate::{
    rig::{Halfway, Rig, config, count, insert, note, on_both, postgres, sqlite},
    support::{Postgres, eventually},
};

#[actix_web::test]
async fn the_same_code_runs_on_both() {
    on_both(
        |_| {},
        async |rig| {
            rig.db
                .run("insert", async |c| insert(c, 1).await)
                .await
                .unwrap();
            let texts: Vec<String> = rig
                .db
                .run("list", async |c| {
                    on!(c, |c| note::table
                        .select(note::text)
                        .filter(note::id.eq(1))
                        .load(c)
                        .await)
                })
                .await
                .unwrap();
            assert_eq!(texts, ["text"]);
        },
    )
    .await;
}

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

#[actix_web::test]
async fn a_text_that_is_to_be_prepared_is_prepared_once_on_a_connection() {
    on_both(
        |_| {},
        async |rig| {
            let work = async |c: &mut Connection| {
                for id in 0..3 {
                    insert(c, id).await?;
                    let text = sql_query("DELETE FROM note WHERE id = $1");
                    let delete = prepared(text.bind::<BigInt, _>(id));
                    assert_eq!(on!(c, |c| delete.execute(c).await)?, 1);
                    let other = sql_query("DELETE FROM note WHERE id = $1 + 1");
                    let other = other.bind::<BigInt, _>(id);
                    assert_eq!(on!(c, |c| other.execute(c).await)?, 0);
                }
                if matches!(c, Connection::Sqlite(_)) {
                    return Ok::<_, DbError>(1);
                }
                let kept = sql_query(
                    "SELECT count(*) AS count FROM pg_prepared_statements WHERE statement LIKE 'DELETE FROM note%'",
                );
                let kept: Counted = on!(c, |c| kept.get_result(c).await)?;
                Ok(kept.count)
            };
            assert_eq!(rig.db.run("prepare", work).await.unwrap(), 1);
        },
    )
    .await;
}

#[actix_web::test]
async fn a_second_row_of_one_key_is_reported_as_such() {
    on_both(
        |_| {},
        async |rig| {
            rig.db
                .run("insert", async |c| insert(c, 1).await)
                .await
                .unwrap();
            let again = rig
                .db
                .run("insert", async |c| insert(c, 1).await)
                .await
                .unwrap_err();
            assert!(again.is_unique_violation(), "{again:?}");
        },
    )
    .await;
}

/// Class 22 of SQLSTATE: the sender must change the value, and a retry does not help.
#[actix_web::test]
async fn a_value_that_the_database_cannot_take_is_reported_as_such() {
    on_both(
        |_| {},
        async |rig| {
            let too_large = rig.db.read("too large", async |c| {
                let query = match c {
                    Connection::Postgres(_) => "SELECT 9223372036854775807 + 1",
                    Connection::Sqlite(_) => "SELECT abs(-9223372036854775807 - 1)",
                };
                on!(c, |c| diesel::sql_query(query).execute(c).await)
            });
            let refused = too_large.await.unwrap_err();
            assert!(matches!(refused, DbError::InvalidData(_)), "{refused:?}");
            assert_eq!(refused.retry_after(), None);
        },
    )
    .await;
}

/// Not from a client, whose NUL is refused before it comes so far.
#[actix_web::test]
async fn postgresql_takes_no_nul_in_a_text() {
    let server = Postgres::start().await;
    let config = config(Target::Postgres(postgres(&server)));
    let rig = Rig::ready(config).await.with_notes().await;
    let refused = rig.db.run("nul", async |c| {
        let row = (note::id.eq(1), note::text.eq("a\0b"));
        on!(c, |c| diesel::insert_into(note::table)
            .values(row)
            .execute(c)
            .await)
    });
    let refused = refused.await.unwrap_err();
    assert!(matches!(refused, DbError::InvalidData(_)), "{refused:?}");
    rig.supervisor.halt().await;
}

#[actix_web::test]
async fn a_transaction_that_fails_or_panics_leaves_nothing() {
    on_both(
        |_| {},
        async |rig| {
            let failed = rig.db.transaction("fail", async |c| {
                insert(c, 1).await?;
                Err::<(), _>(DbError::from(diesel::result::Error::RollbackTransaction))
            });
            failed.await.unwrap_err();
            let panicked = rig
                .db
                .transaction("panic", async |c| -> Result<(), DbError> {
                    insert(c, 2).await?;
                    panic!("in the middle of it");
                });
            let panicked = panicked.await.unwrap_err().to_string();
            assert_eq!(
                panicked,
                "database work `panic` panicked: in the middle of it"
            );
            assert_eq!(count(&rig.db).await, 0);
            rig.db
                .transaction("succeed", async |c| insert(c, 3).await)
                .await
                .unwrap();
            assert_eq!(count(&rig.db).await, 1);
        },
    )
    .await;
}

/// On the current-thread runtime of an actix worker, where both back ends have their traps.
#[actix_web::test]
async fn a_caller_that_goes_away_neither_panics_nor_leaves_a_transaction_open() {
    let server = Postgres::start().await;
    let directory = tempfile::tempdir().unwrap();
    for target in [
        sqlite(directory.path()),
        Target::Postgres(postgres(&server)),
    ] {
        let rig = Rig::ready(config(target)).await.with_notes().await;
        let work = Halfway::start(&rig.db, 1, false).await;
        work.end_without_caller().await;
        eventually("the work to run to its end", || async {
            (count(&rig.db).await == 2).then_some(())
        })
        .await;
        // A handler that panics takes its future with it in the unwinding.
        let (db, begun) = (rig.db.clone(), Arc::<Notify>::default());
        let reported = Arc::clone(&begun);
        let handler = tokio::spawn(async move {
            let work = db.transaction("panicking caller", async move |c| {
                insert(c, 3).await?;
                reported.notify_one();
                tokio::time::sleep(Duration::from_millis(50)).await;
                insert(c, 4).await
            });
            let panics = async {
                begun.notified().await;
                panic!("in the handler");
            };
            tokio::join!(work, panics)
        });
        assert!(handler.await.unwrap_err().is_panic());
        eventually("that work to run to its end", || async {
            (count(&rig.db).await == 4).then_some(())
        })
        .await;
        let open = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'";
        assert_eq!(server.query(open).await, "0");
        rig.supervisor.halt().await;
    }
}

#[actix_web::test]
async fn work_that_takes_too_long_loses_its_connection_and_its_effect() {
    on_both(
        |config| config.statement_timeout = Duration::from_millis(200),
        async |rig| {
            let work = rig.db.transaction("linger", async |c| {
                insert(c, 1).await?;
                tokio::time::sleep(Duration::from_secs(60)).await;
                Ok::<_, DbError>(())
            });
            assert!(matches!(
                work.await,
                Err(DbError::Overran {
                    operation: "linger",
                    ..
                })
            ));
            assert_eq!(count(&rig.db).await, 0);
        },
    )
    .await;
}

#[actix_web::test]
async fn an_exhausted_pool_is_reported() {
    let adapt = |config: &mut Config| {
        config.pool_size = PoolSize::new(1);
        config.pool_timeout = Duration::from_millis(100);
    };
    on_both(adapt, async |rig| {
        let hog = rig.db.run("hog", async |_| {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<_, DbError>(())
        });
        let late = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            rig.db.run("late", async |c| insert(c, 1).await).await
        };
        let (hogged, refused) = tokio::join!(hog, late);
        hogged.unwrap();
        let refused = refused.unwrap_err();
        assert!(
            matches!(refused, DbError::PoolExhausted { .. }),
            "{refused:?}"
        );
        assert!(refused.retry_after().is_some());
    })
    .await;
}

#[actix_web::test]
async fn an_absent_database_is_reported_at_once_and_used_again_when_it_is_back() {
    let mut server = Postgres::start().await;
    let rig = Rig::ready(config(Target::Postgres(postgres(&server))))
        .await
        .with_notes()
        .await;
    server.kill().await;
    rig.until_reason("unreachable").await;
    let refused = rig
        .db
        .run("insert", async |c| insert(c, 1).await)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, DbError::Unavailable { .. }),
        "{refused:?}"
    );
    server.restart().await;
    rig.until(|board| board.readiness.serves()).await;
    rig.db
        .run("insert", async |c| insert(c, 1).await)
        .await
        .unwrap();
    assert_eq!(rig.supervisor.board().components[0].restarts, 0);
    rig.supervisor.halt().await;
}

#[actix_web::test]
async fn many_writers_of_one_sqlite_file_wait_for_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let rig = Rig::ready(config(sqlite(directory.path())))
        .await
        .with_notes()
        .await;
    let writers = (0..20).map(|writer| {
        let db = rig.db.clone();
        async move {
            for n in 0..10 {
                db.transaction("write", async move |c| insert(c, writer * 100 + n).await)
                    .await
                    .unwrap();
            }
        }
    });
    futures_util::future::join_all(writers).await;
    assert_eq!(count(&rig.db).await, 200);
    rig.supervisor.halt().await;
}

#[actix_web::test]
async fn a_sqlite_file_is_set_up_to_lose_nothing() {
    #[derive(QueryableByName)]
    struct Setting {
        #[diesel(sql_type = diesel::sql_types::Text)]
        value: String,
    }
    let directory = tempfile::tempdir().unwrap();
    let rig = Rig::ready(config(sqlite(directory.path()))).await;
    for (pragma, expected) in [
        ("journal_mode", "wal"),
        ("synchronous", "2"),
        ("foreign_keys", "1"),
    ] {
        let query = format!("SELECT CAST({pragma} AS TEXT) AS value FROM pragma_{pragma}");
        let found: Setting = rig
            .db
            .run("pragma", async move |c| {
                on!(c, |c| diesel::sql_query(query).get_result(c).await)
            })
            .await
            .unwrap();
        assert_eq!(found.value, expected, "{pragma}");
    }
    rig.supervisor.halt().await;
}
