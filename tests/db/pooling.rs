//! The pool: what it keeps open, what it replaces, and what a restart of its actor does to work under way.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::{
    db::{Db, DbError, PoolSize, Target},
    on,
};

use crate::{
    rig::{Halfway, Rig, config, insert, note, on_both, postgres},
    support::{Postgres, eventually},
};

async fn ids(db: &Db) -> Vec<i64> {
    db.read("ids", async |c| {
        on!(c, |c| note::table
            .select(note::id)
            .order(note::id)
            .load(c)
            .await)
    })
    .await
    .unwrap()
}

async fn until_idle(db: &Db, wanted: usize) {
    eventually(&format!("{wanted} idle connections"), || async {
        (db.pool()?.status().idle == wanted).then_some(())
    })
    .await;
}

#[actix_web::test]
async fn the_configured_number_of_idle_connections_is_kept_open() {
    on_both(
        |config| config.min_idle = 3,
        async |rig| until_idle(&rig.db, 3).await,
    )
    .await;
    // More than there may be is as many as there may be.
    on_both(
        |config| config.min_idle = 100,
        async |rig| until_idle(&rig.db, 4).await,
    )
    .await;
}

#[actix_web::test]
async fn connections_that_are_kept_open_and_end_are_replaced_without_being_asked_for() {
    let server = Postgres::start().await;
    let mut settings = config(Target::Postgres(postgres(&server)));
    settings.min_idle = 3;
    let rig = Rig::ready(settings).await;
    until_idle(&rig.db, 3).await;
    let ours = "SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE usename = 'dotmac'";
    let pids = async || -> BTreeSet<String> {
        let pids = server.query(ours).await;
        pids.split(' ').map(str::to_owned).collect()
    };
    let former = pids().await;
    server
        .query("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'dotmac'")
        .await;
    eventually("three other connections", || async {
        let others = pids().await.difference(&former).count();
        (others > 3).then_some(())
    })
    .await;
    until_idle(&rig.db, 3).await;
    rig.supervisor.halt().await;
}

#[actix_web::test]
async fn a_connection_past_its_lifetime_is_replaced_and_no_query_fails() {
    #[derive(QueryableByName)]
    struct Pid {
        #[diesel(sql_type = diesel::sql_types::Integer)]
        pid: i32,
    }
    let server = Postgres::start().await;
    let mut settings = config(Target::Postgres(postgres(&server)));
    settings.max_lifetime = Duration::from_millis(300);
    let rig = Rig::ready(settings).await.with_notes().await;
    let mut seen = BTreeSet::new();
    let mut id = 0;
    while seen.len() < 5 {
        let backend = rig.db.transaction("insert", async move |c| {
            insert(c, id).await?;
            // Some of this is longer than what is left of the connection's life.
            tokio::time::sleep(Duration::from_millis(20)).await;
            let query = diesel::sql_query("SELECT pg_backend_pid() AS pid");
            on!(c, |c| query.get_result::<Pid>(c).await)
        });
        seen.insert(backend.await.unwrap().pid);
        id += 1;
    }
    assert_eq!(ids(&rig.db).await.len() as i64, id);
    assert!(rig.supervisor.board().readiness.serves());
    rig.supervisor.halt().await;
}

/// Each asks when the one before it is known to wait.
#[actix_web::test]
async fn the_first_request_is_served_first_in_a_burst() {
    on_both(
        |config| config.pool_size = PoolSize::new(1),
        async |rig| {
            let hog = Halfway::start(&rig.db, 1, false).await;
            let served = Arc::new(Mutex::new(Vec::new()));
            let mut burst = Vec::new();
            for turn in 0..20 {
                let (db, served) = (rig.db.clone(), Arc::clone(&served));
                burst.push(tokio::spawn(async move {
                    db.run("burst", async move |_| {
                        served.lock().unwrap().push(turn);
                        Ok::<_, DbError>(())
                    })
                    .await
                }));
                eventually("it to wait", || async {
                    (rig.db.pool()?.status().waiting == turn + 1).then_some(())
                })
                .await;
            }
            hog.end().await.unwrap();
            for one in burst {
                one.await.unwrap().unwrap();
            }
            assert_eq!(*served.lock().unwrap(), (0..20).collect::<Vec<_>>());
        },
    )
    .await;
}

#[actix_web::test]
async fn a_pool_that_is_made_smaller_under_load_ends_no_work_and_then_has_fewer_connections() {
    let server = Postgres::start().await;
    let settings = config(Target::Postgres(postgres(&server)));
    let size = settings.pool_size.clone();
    let rig = Rig::ready(settings).await.with_notes().await;
    let mut busy = Vec::new();
    for n in 0..4 {
        busy.push(Halfway::start(&rig.db, n * 10, false).await);
    }
    rig.db.resize(&size, 1);
    for work in busy {
        work.end().await.unwrap();
    }
    eventually("one connection to be left", || async {
        let status = rig.db.pool()?.status();
        (status.max == 1 && status.idle + status.used == 1).then_some(())
    })
    .await;
    assert_eq!(ids(&rig.db).await, [0, 1, 10, 11, 20, 21, 30, 31]);
    rig.supervisor.halt().await;
}

#[actix_web::test]
async fn a_transaction_that_is_open_while_the_actor_restarts_ends_whole_or_not_at_all() {
    on_both(
        |_| {},
        async |rig| {
            let restart = async |generation| {
                rig.supervisor.restart("db").unwrap();
                rig.until(|board| {
                    board.components[0].generation == generation && board.readiness.serves()
                })
                .await;
            };
            let finishes = Halfway::start(&rig.db, 1, false).await;
            restart(2).await;
            // The new life has its own pool, and sees nothing of what is not committed.
            assert_eq!(ids(&rig.db).await, Vec::<i64>::new());
            finishes.end().await.unwrap();
            assert_eq!(ids(&rig.db).await, [1, 2]);

            let fails = Halfway::start(&rig.db, 3, true).await;
            restart(3).await;
            let reported = fails.end().await.unwrap_err();
            assert!(matches!(reported, DbError::Query(_)), "{reported:?}");
            assert_eq!(ids(&rig.db).await, [1, 2]);
            rig.db
                .run("insert", async |c| insert(c, 5).await)
                .await
                .unwrap();
        },
    )
    .await;
}
