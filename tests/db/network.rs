//! Faults of networks: the connection to a real PostgreSQL is cut, slow, or silent.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::{
    db::{Config, Db, DbError, PoolSize, Target},
    on,
};

use crate::{
    load::{ids, insert},
    rig::{Halfway, Rig, config, note, postgres},
    support::{PATIENCE, Postgres, eventually, proxy::Proxy},
};

/// A server, and a proxy before it that `Config` leads to.
async fn server() -> (Postgres, Proxy, Config) {
    let server = Postgres::start().await;
    let proxy = Proxy::before(server.port).await;
    let mut target = postgres(&server);
    target.port = proxy.port;
    (server, proxy, config(Target::Postgres(target)))
}

#[actix_web::test]
async fn a_network_that_is_cut_in_a_transaction_leaves_nothing_of_it() {
    let (_server, proxy, config) = server().await;
    let rig = Rig::ready(config).await.with_notes().await;
    let (begun, cut) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let work = {
        let (db, begun, cut) = (rig.db.clone(), Arc::clone(&begun), Arc::clone(&cut));
        tokio::spawn(async move {
            db.transaction("half", async move |c| {
                for id in 0..2 {
                    let row = (note::id.eq(id), note::text.eq("half"));
                    on!(c, |c| diesel::insert_into(note::table)
                        .values(row)
                        .execute(c)
                        .await)?;
                    begun.store(true, Relaxed);
                    while !AtomicBool::load(&cut, Relaxed) {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
                Ok::<_, DbError>(())
            })
            .await
        })
    };
    eventually("the transaction to have begun", || async {
        AtomicBool::load(&begun, Relaxed).then_some(())
    })
    .await;
    proxy.cut();
    cut.store(true, Relaxed);
    let lost = work.await.unwrap().unwrap_err();
    assert!(matches!(lost, DbError::ConnectionLost(_)), "{lost:?}");
    rig.until_reason("unreachable").await;
    proxy.mend();
    rig.until(|board| board.readiness.serves()).await;
    assert_eq!(ids(&rig.db).await, Vec::<i64>::new());
    rig.supervisor.halt().await;
}

/// 300 ms for each packet: a statement takes over a second, and nothing of the server's is broken.
#[actix_web::test]
async fn a_slow_network_is_a_handicap_with_a_word_of_its_own_and_never_a_dead_server() {
    let (_server, proxy, mut config) = server().await;
    config.connect_timeout = Duration::from_secs(20);
    let rig = Rig::ready(config).await.with_notes().await;
    proxy.delay(Duration::from_millis(300));
    let slow = rig.until_reason("slow");
    let serves = rig.supervisor.until(|board| !board.readiness.serves());
    tokio::select! {
        () = slow => {}
        _ = serves => panic!("{:?}", rig.supervisor.board()),
    }
    insert(&rig.db, 1, "late".into()).await.unwrap();
    // The monitor's connection too is opened over it, and takes its time.
    rig.supervisor.restart("db").unwrap();
    rig.until(|board| board.components[0].generation == 2 && board.readiness.serves())
        .await;
    let down = rig.supervisor.until(|board| !board.readiness.serves());
    let down = tokio::time::timeout(Duration::from_secs(8), down).await;
    assert!(down.is_err(), "{:?}", rig.supervisor.board());
    assert_eq!(ids(&rig.db).await, [1]);
    proxy.mend();
    rig.until(|board| board.components[0].reason.is_none())
        .await;
    rig.supervisor.halt().await;
}

/// A statement that the server is at, by the comment in it.
async fn is_at_work(server: &Postgres, mark: &str) {
    let query = format!("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%/* {mark} */'");
    eventually("the server to be at work", || async {
        (server.query(&query).await != "0").then_some(())
    })
    .await;
}

/// Every piece of work ends soon after the server stops answering, and each caller learns whether it may have been
/// executed.
#[actix_web::test]
async fn no_work_waits_for_a_server_behind_a_black_hole() {
    let (server, proxy, mut config) = server().await;
    config.pool_size = PoolSize::new(3);
    config.pool_timeout = Duration::from_secs(30);
    let rig = Rig::ready(config).await.with_notes().await;
    let transaction = Halfway::start(&rig.db, 1, false).await;
    let slow = |mark: &'static str, reads: bool| {
        let db = rig.db.clone();
        tokio::spawn(async move {
            let query = format!("SELECT pg_sleep(60) /* {mark} */");
            let work = async move |c: &mut dotmac_platform::db::Connection| {
                on!(c, |c| diesel::sql_query(query).execute(c).await)
            };
            if reads {
                db.read("read", work).await
            } else {
                db.run("write", work).await
            }
        })
    };
    let (reads, writes) = (slow("reads", true), slow("writes", false));
    is_at_work(&server, "reads").await;
    is_at_work(&server, "writes").await;
    // All three connections are on loan.
    let waits = {
        let db: Db = rig.db.clone();
        tokio::spawn(async move { insert(&db, 10, "never".into()).await })
    };
    eventually("work to wait for a connection", || async {
        let waiting = rig.db.pool()?.status().waiting;
        (waiting == 1).then_some(())
    })
    .await;
    proxy.swallow();
    let hole = Instant::now();
    rig.until(|board| !board.readiness.serves()).await;
    println!("not ready after {:?}", hole.elapsed());

    let ended = tokio::time::timeout(PATIENCE, waits).await.unwrap();
    let ended = ended.unwrap().unwrap_err();
    println!("the last in the queue after {:?}", hole.elapsed());
    assert!(matches!(ended, DbError::Unavailable { .. }), "{ended:?}");
    let ended = tokio::time::timeout(PATIENCE, reads).await.unwrap();
    let ended = ended.unwrap().unwrap_err();
    println!("what the server was at after {:?}", hole.elapsed());
    assert!(matches!(ended, DbError::ConnectionLost(_)), "{ended:?}");
    let ended = writes.await.unwrap().unwrap_err();
    assert!(matches!(ended, DbError::OutcomeUnknown(_)), "{ended:?}");
    assert_eq!(ended.retry_after(), None);
    let ended = transaction.end().await.unwrap_err();
    assert!(matches!(ended, DbError::ConnectionLost(_)), "{ended:?}");
    // The limit of one statement is 30 s, that of work 60 s.
    assert!(
        hole.elapsed() < Duration::from_secs(15),
        "{:?}",
        hole.elapsed()
    );
    proxy.mend();
    rig.until(|board| board.readiness.serves()).await;
    assert_eq!(ids(&rig.db).await, Vec::<i64>::new());
    assert_eq!(rig.supervisor.board().components[0].restarts, 0);
    rig.supervisor.halt().await;
}

/// A commit that was sent and not answered: it took place here, and its caller must not get another answer.
#[actix_web::test]
async fn a_commit_behind_a_black_hole_may_have_been_carried_out() {
    let (server, proxy, config) = server().await;
    let rig = Rig::ready(config).await.with_notes().await;
    // The commit waits for a trigger at its end, which waits for this lock.
    server
        .query(
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END $$; \
             CREATE CONSTRAINT TRIGGER late AFTER INSERT ON note DEFERRABLE INITIALLY DEFERRED \
                 FOR EACH ROW EXECUTE FUNCTION wait()",
        )
        .await;
    let (holder, connection) = tokio_postgres::connect(&server.url(), tokio_postgres::NoTls)
        .await
        .unwrap();
    let driver = tokio::spawn(connection);
    holder
        .batch_execute("SELECT pg_advisory_lock(7)")
        .await
        .unwrap();
    let commits = {
        let db = rig.db.clone();
        tokio::spawn(async move { insert(&db, 1, "in doubt".into()).await })
    };
    eventually("the commit to be under way", || async {
        let at_it =
            "SELECT count(*) FROM pg_stat_activity WHERE query = 'COMMIT' AND state = 'active'";
        (server.query(at_it).await == "1").then_some(())
    })
    .await;
    proxy.swallow();
    let ended = tokio::time::timeout(PATIENCE, commits).await.unwrap();
    let ended = ended.unwrap().unwrap_err();
    assert!(matches!(ended, DbError::OutcomeUnknown(_)), "{ended:?}");
    drop(holder);
    driver.await.unwrap().unwrap();
    proxy.mend();
    rig.until(|board| board.readiness.serves()).await;
    assert_eq!(ids(&rig.db).await, [1]);
    rig.supervisor.halt().await;
}
