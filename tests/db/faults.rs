//! Faults of databases: a real PostgreSQL is killed, frozen, demoted, and filled, under load.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
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
    load::{Writers, ids, insert},
    rig::{Rig, config, note, postgres},
    support::{Postgres, small_disk::SmallDisk},
};

fn to(server: &Postgres) -> Config {
    config(Target::Postgres(postgres(server)))
}

/// Inserts a row by a connection that is held meanwhile.
async fn insert_slowly(db: Db, id: i64) -> Result<usize, DbError> {
    db.run("hold", async move |c| {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let row = (note::id.eq(id), note::text.eq("x"));
        on!(c, |c| diesel::insert_into(note::table)
            .values(row)
            .execute(c)
            .await)
    })
    .await
}

#[actix_web::test]
async fn every_acknowledged_write_is_there_after_the_server_was_killed_under_load() {
    let mut server = Postgres::start().await;
    let rig = Rig::ready(to(&server)).await.with_notes().await;
    let writers = Writers::start(&rig.db, 8);
    for _ in 0..2 {
        writers.go_on(100).await;
        server.kill().await;
        rig.until_reason_one_of(&["unreachable", "not_accepting"])
            .await;
        server.restart().await;
        let back = Instant::now();
        rig.until(|board| board.readiness.serves()).await;
        println!("ready {:?} after the server's return", back.elapsed());
    }
    writers.go_on(100).await;
    let acknowledged = writers.stop().await;
    let there = ids(&rig.db).await;
    let lost: Vec<_> = acknowledged
        .iter()
        .filter(|id| !there.contains(id))
        .collect();
    assert!(acknowledged.len() > 100);
    assert!(lost.is_empty(), "{lost:?} of {}", acknowledged.len());
    assert_eq!(rig.supervisor.board().components[0].restarts, 0);
    rig.supervisor.halt().await;
}

/// How long the server stands still, which is much longer than what may pass until that is noticed.
const STANDSTILL: Duration = Duration::from_secs(10);

#[actix_web::test]
async fn a_server_that_is_paused_for_long_under_load_blocks_no_caller_and_loses_nothing() {
    let server = Postgres::start().await;
    let mut settings = to(&server);
    settings.pool_size = PoolSize::new(8);
    settings.statement_timeout = Duration::from_secs(1);
    let rig = Rig::ready(settings).await.with_notes().await;
    let writers = Writers::start(&rig.db, 4);
    writers.go_on(50).await;
    let (begun, stands) = (Arc::<AtomicU32>::default(), Arc::<AtomicBool>::default());
    let under_way: Vec<_> = (0..2)
        .map(|n| {
            let (db, begun, stands) = (rig.db.clone(), Arc::clone(&begun), Arc::clone(&stands));
            tokio::spawn(async move {
                db.transaction("under way", async move |c| {
                    begun.fetch_add(1, Relaxed);
                    while !AtomicBool::load(&stands, Relaxed) {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    let row = (note::id.eq(-1 - n), note::text.eq("never"));
                    on!(c, |c| diesel::insert_into(note::table)
                        .values(row)
                        .execute(c)
                        .await)
                })
                .await
            })
        })
        .collect();
    crate::support::eventually("the transactions to be under way", || async {
        (AtomicU32::load(&begun, Relaxed) == 2).then_some(())
    })
    .await;
    server.freeze();
    let frozen = Instant::now();
    stands.store(true, Relaxed);
    rig.until(|board| !board.readiness.serves()).await;
    assert!(frozen.elapsed() < STANDSTILL, "{:?}", frozen.elapsed());
    let refused = insert(&rig.db, -9, "refused".into()).await.unwrap_err();
    assert!(
        matches!(refused, DbError::Unavailable { .. }),
        "{refused:?}"
    );
    // Work that waits for an answer does not wait for the server to go on.
    for work in under_way {
        let ended = work.await.unwrap().unwrap_err();
        assert!(
            matches!(ended, DbError::Overran { .. } | DbError::ConnectionLost(_)),
            "{ended:?}"
        );
    }
    // And those who come meanwhile are answered, all the while.
    let tried = writers.go_on(100);
    tokio::join!(
        tried,
        tokio::time::sleep_until((frozen + STANDSTILL).into())
    );
    server.thaw();
    let thawed = Instant::now();
    rig.until(|board| board.readiness.serves()).await;
    println!("ready {:?} after the server went on", thawed.elapsed());
    writers.go_on(50).await;
    let acknowledged = writers.stop().await;
    let there = ids(&rig.db).await;
    assert!(acknowledged.iter().all(|id| there.contains(id)));
    assert!(there.iter().all(|id| *id > 0), "{there:?}");
    assert_eq!(rig.supervisor.board().components[0].restarts, 0);
    rig.supervisor.halt().await;
}

#[actix_web::test]
async fn connections_that_an_operator_ends_are_replaced_and_nothing_else_happens() {
    let server = Postgres::start().await;
    let rig = Rig::ready(to(&server)).await.with_notes().await;
    let lingering = {
        let db = rig.db.clone();
        tokio::spawn(async move {
            db.transaction("linger", async |c| {
                on!(c, |c| diesel::sql_query("SELECT pg_sleep(30)")
                    .execute(c)
                    .await)
            })
            .await
        })
    };
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    crate::support::eventually("the work to be under way", || async {
        (server.query(asleep).await == "1").then_some(())
    })
    .await;
    server
        .query("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'dotmac'")
        .await;
    let lost = lingering.await.unwrap().unwrap_err();
    assert!(matches!(lost, DbError::ConnectionLost(_)), "{lost:?}");
    for id in 0..20 {
        // On a slow machine the monitor, whose connection was ended too, may be late with its next one.
        crate::support::eventually("a write", || async {
            insert(&rig.db, id, "after".into()).await.ok()
        })
        .await;
    }
    rig.until(|board| board.readiness.serves()).await;
    assert_eq!(rig.supervisor.board().components[0].restarts, 0);
    rig.supervisor.halt().await;
}

/// A refusal by a demoted primary evicts every connection at once: the same address may lead to a new primary.
#[actix_web::test]
async fn a_demoted_server_is_read_only_at_once_and_no_old_connection_is_lent_again() {
    let server = Postgres::start().await;
    let rig = Rig::ready(to(&server)).await.with_notes().await;
    insert(&rig.db, 1, "before".into()).await.unwrap();
    let pid = |db: Db| async move {
        #[derive(QueryableByName)]
        struct Pid {
            #[diesel(sql_type = diesel::sql_types::Integer)]
            pid: i32,
        }
        let query = "SELECT pg_backend_pid() AS pid";
        db.read("pid", async move |c| {
            on!(c, |c| diesel::sql_query(query).get_result::<Pid>(c).await)
        })
        .await
        .map(|row| row.pid)
    };
    let before = pid(rig.db.clone()).await.unwrap();
    server
        .query("ALTER SYSTEM SET default_transaction_read_only = on")
        .await;
    server.query("SELECT pg_reload_conf()").await;
    rig.until_reason("read_only").await;
    let refused = insert(&rig.db, 2, "refused".into()).await.unwrap_err();
    assert!(
        matches!(refused, DbError::Unavailable { .. } | DbError::ReadOnly(_)),
        "{refused:?}"
    );
    server
        .query("ALTER SYSTEM RESET default_transaction_read_only")
        .await;
    server.query("SELECT pg_reload_conf()").await;
    rig.until(|board| board.readiness.serves()).await;
    insert(&rig.db, 3, "after".into()).await.unwrap();
    assert_ne!(pid(rig.db.clone()).await.unwrap(), before);
    rig.supervisor.halt().await;
}

#[actix_web::test]
async fn a_full_disk_is_reported_as_such_and_forgiven_when_there_is_space() {
    let server = Postgres::start().await;
    let Some(disk) = SmallDisk::mount(20 * 1024) else {
        return;
    };
    disk.take(8 * 1024);
    let space = disk.path().join("space");
    std::fs::create_dir(&space).unwrap();
    server.own(&space);
    let location = space.display();
    server
        .query(&format!("CREATE TABLESPACE small LOCATION '{location}'"))
        .await;
    server
        .query("CREATE DATABASE tiny OWNER dotmac TABLESPACE small")
        .await;
    let mut target = postgres(&server);
    target.database = "tiny".to_owned();
    let rig = Rig::ready(config(Target::Postgres(target)))
        .await
        .with_notes()
        .await;
    // Incompressible, or the server would make nothing of it.
    let filler = || -> String { (0..200_000).map(|_| fastrand::alphanumeric()).collect() };
    let mut id = 0;
    let refused = loop {
        id += 1;
        assert!(id < 200, "the disk does not fill");
        if let Err(refused) = insert(&rig.db, id, filler()).await {
            break refused;
        }
    };
    assert!(matches!(refused, DbError::DiskFull(_)), "{refused:?}");
    rig.until_reason("disk_full").await;
    disk.free();
    rig.until(|board| board.readiness.serves()).await;
    insert(&rig.db, 1000, filler()).await.unwrap();
    rig.supervisor.halt().await;
}

#[actix_web::test]
async fn a_server_that_takes_no_more_connections_is_a_handicap_as_long_as_some_are_left() {
    let server = Postgres::start().await;
    server.query("ALTER ROLE dotmac CONNECTION LIMIT 2").await;
    // One for the pool, one for the monitor, and no third.
    let rig = Rig::ready(to(&server)).await.with_notes().await;
    insert(&rig.db, 1, "alone".into()).await.unwrap();
    crate::support::eventually("the monitor to be connected", || async {
        let open = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'dotmac'";
        (server.query(open).await == "2").then_some(())
    })
    .await;
    let two = (10..12).map(|id| insert_slowly(rig.db.clone(), id));
    let ended = futures_util::future::join_all(two).await;
    assert_eq!(ended.iter().filter(|end| end.is_ok()).count(), 1);
    rig.until_reason("too_many_connections").await;
    assert!(rig.supervisor.board().readiness.serves());
    insert(&rig.db, 2, "still".into()).await.unwrap();
    server.query("ALTER ROLE dotmac CONNECTION LIMIT -1").await;
    rig.until(|board| board.components[0].reason.is_none())
        .await;
    rig.supervisor.halt().await;
}

/// Said on the server's behalf: a real one would have to lose a disk's block.
#[actix_web::test]
async fn data_that_the_server_calls_corrupted_is_a_handicap_until_the_actor_is_restarted() {
    let server = Postgres::start().await;
    let rig = Rig::ready(to(&server)).await.with_notes().await;
    let failed = rig.db.run("meet damage", async |c| {
        let say = "DO $$ BEGIN RAISE EXCEPTION 'invalid page' USING ERRCODE = 'XX001'; END $$";
        on!(c, |c| diesel::sql_query(say).execute(c).await)
    });
    failed.await.unwrap_err();
    rig.until_reason("data_corrupted").await;
    insert(&rig.db, 1, "still".into()).await.unwrap();
    rig.supervisor.restart("db").unwrap();
    rig.until(|board| board.components[0].generation == 2 && board.readiness.serves())
        .await;
    assert_eq!(rig.supervisor.board().components[0].reason, None);
    rig.supervisor.halt().await;
}

/// Takes connections from outside until the server has none left.
async fn fill(server: &Postgres) -> Vec<tokio_postgres::Client> {
    let mut held = Vec::new();
    loop {
        match tokio_postgres::connect(&server.url(), tokio_postgres::NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                held.push(client);
            }
            Err(full) => {
                assert_eq!(full.code().map(|it| it.code()), Some("53300"), "{full:?}");
                return held;
            }
        }
    }
}

#[actix_web::test]
async fn a_server_whose_connections_are_all_taken_by_others_is_reported_as_such_and_heals() {
    let server = Postgres::with_connections(10).await;
    // At the start there is none for us.
    let others = fill(&server).await;
    let rig = Rig::start(to(&server));
    rig.until_reason("too_many_connections").await;
    assert!(!rig.supervisor.board().readiness.serves());
    drop(others);
    rig.until(|board| board.readiness.serves()).await;
    let rig = rig.with_notes().await;

    // Later the pool keeps what it has, and gets no more.
    let others = fill(&server).await;
    let together = (0..4).map(|id| insert_slowly(rig.db.clone(), id));
    let ended = futures_util::future::join_all(together).await;
    let done = ended.iter().filter(|end| end.is_ok()).count();
    assert!((1..4).contains(&done), "{ended:?}");
    let refused = ended.into_iter().filter_map(Result::err);
    for refused in refused {
        assert!(matches!(refused, DbError::Connect(_)), "{refused:?}");
        assert!(refused.retry_after().is_some());
    }
    rig.until_reason("too_many_connections").await;
    assert!(rig.supervisor.board().readiness.serves());
    insert(&rig.db, 10, "still".into()).await.unwrap();
    drop(others);
    rig.until(|board| board.components[0].reason.is_none())
        .await;
    rig.supervisor.halt().await;
}

#[actix_web::test]
async fn a_pool_from_which_nothing_comes_back_is_degraded_and_then_not_ready() {
    let server = Postgres::start().await;
    let mut config = to(&server);
    config.pool_size = PoolSize::new(1);
    config.pool_timeout = Duration::from_secs(1);
    let rig = Rig::ready(config).await.with_notes().await;
    let release = Arc::new(AtomicBool::new(false));
    let hog = {
        let (db, release) = (rig.db.clone(), Arc::clone(&release));
        tokio::spawn(async move {
            db.run("hog", async move |_| {
                while !AtomicBool::load(&release, Relaxed) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Ok::<_, DbError>(())
            })
            .await
        })
    };
    let waiting = {
        let db = rig.db.clone();
        tokio::spawn(async move {
            while !matches!(
                insert(&db, 1, "late".into()).await,
                Err(DbError::Unavailable { .. })
            ) {}
        })
    };
    rig.until_reason("pool_exhausted").await;
    rig.until(|board| !board.readiness.serves()).await;
    waiting.await.unwrap();
    release.store(true, Relaxed);
    hog.await.unwrap().unwrap();
    rig.until(|board| board.readiness.serves()).await;
    rig.supervisor.halt().await;
}
