//! Modules that share a database: a runaway delays only itself.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use dotmac_platform::db::{Config, Db, DbError, ModuleDb, ModuleLoad, PoolSize, Share};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    rig::{Rig, count, insert, on_both},
    support::eventually,
};

/// Work of one module that holds its connections until it is let go.
struct Runaway {
    module: ModuleDb,
    go: watch::Sender<bool>,
    work: Vec<JoinHandle<Result<(), DbError>>>,
}

impl Runaway {
    /// Begins `pieces` of work that read, of which as many hold a connection as may.
    async fn start(rig: &Rig, pieces: usize) -> Self {
        let module = rig.db.for_module("runaway", Share::HALF);
        let go = watch::Sender::new(false);
        let hold = |_| {
            let (module, mut gone) = (module.clone(), go.subscribe());
            tokio::spawn(async move {
                let db = module.system("a test runs away");
                let holds = db.read("hold", async move |_| {
                    gone.wait_for(|go| *go).await.unwrap();
                    Ok(())
                });
                holds.await
            })
        };
        let work = (0..pieces).map(hold).collect();
        let runaway = Self { module, go, work };
        eventually("all of it to hold a connection or to wait", || async {
            let ModuleLoad { used, waiting, .. } = runaway.load();
            (used + waiting == pieces).then_some(())
        })
        .await;
        runaway
    }

    fn load(&self) -> ModuleLoad {
        self.module.load().unwrap()
    }

    /// Lets all of it go on, and waits for its end.
    async fn end(self) {
        self.go.send_replace(true);
        for work in self.work {
            work.await.unwrap().unwrap();
        }
    }
}

fn patient(config: &mut Config) {
    config.pool_size = PoolSize::new(5);
    config.pool_timeout = Duration::from_secs(60);
}

#[actix_web::test]
async fn a_module_that_runs_away_holds_its_share_and_everybody_else_goes_on() {
    on_both(patient, async |rig| {
        let runaway = Runaway::start(rig, 100).await;
        let ModuleLoad {
            module,
            used,
            max,
            waiting,
        } = runaway.load();
        // Half of five; of SQLite's four that read, and its one that writes is not asked for.
        assert_eq!((module, used, max, waiting), ("runaway", 2, 2, 98));
        assert!(dotmac_platform::db::module_loads().contains(&runaway.load()));
        let other = rig.db.for_module("other", Share::percent(1));
        for id in 0..20 {
            let db = other.system("a test");
            db.transaction("write", async move |tx| insert(tx, id).await)
                .await
                .unwrap();
            assert_eq!(count(&rig.db).await, id + 1);
        }
        assert_eq!(runaway.load().used, 2);
        assert!(rig.supervisor.board().components[0].reason.is_none());
        runaway.end().await;
    })
    .await;
}

#[actix_web::test]
async fn what_a_module_asks_for_beyond_its_share_is_refused_in_its_name_and_the_database_stays_well()
 {
    let adapt = |config: &mut Config| {
        config.pool_size = PoolSize::new(5);
        config.pool_timeout = Duration::from_millis(300);
    };
    on_both(adapt, async |rig| {
        let runaway = Runaway::start(rig, 2).await;
        let db = runaway.module.system("a test");
        let refused = db
            .read("one more", async |_| Ok::<_, DbError>(()))
            .await
            .unwrap_err();
        assert!(
            matches!(
                &refused,
                DbError::PoolExhausted {
                    module: Some("runaway"),
                    ..
                }
            ),
            "{refused:?}"
        );
        assert!(
            refused.to_string().contains("module `runaway`"),
            "{refused}"
        );
        assert!(refused.retry_after().is_some());
        assert_eq!(count(&rig.db).await, 0);
        assert!(rig.supervisor.board().components[0].reason.is_none());
        runaway.end().await;
        assert_eq!(
            db.read("now", async |_| Ok::<_, DbError>(1)).await.unwrap(),
            1
        );
    })
    .await;
}

/// Of PostgreSQL's only connection and of SQLite's only one that writes.
#[actix_web::test]
async fn modules_take_turns_where_there_is_one_connection() {
    let adapt = |config: &mut Config| {
        patient(config);
        config.pool_size = PoolSize::new(1);
    };
    on_both(adapt, async |rig| {
        let served = Arc::new(Mutex::new(Vec::new()));
        let write = |db: Db, who: &'static str| {
            let served = Arc::clone(&served);
            tokio::spawn(async move {
                db.run("write", async move |_| {
                    served.lock().unwrap().push(who);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    Ok::<_, DbError>(())
                })
                .await
            })
        };
        let many = rig.db.for_module("many", Share::HALF);
        let few = rig.db.for_module("few", Share::HALF);
        let mut all: Vec<_> = (0..50)
            .map(|_| write(many.system("a test"), "many"))
            .collect();
        eventually("it to have begun", || async {
            (many.load().unwrap().waiting > 40).then_some(())
        })
        .await;
        let before = served.lock().unwrap().len();
        all.push(write(few.system("a test"), "few"));
        for one in all {
            one.await.unwrap().unwrap();
        }
        let served = served.lock().unwrap();
        let turn = served.iter().position(|who| *who == "few").unwrap();
        // The one under way, the one that waits for the connection already, and what a slow machine lets by.
        assert!(turn < before + 10, "{turn} after {before}");
    })
    .await;
}

#[actix_web::test]
async fn a_share_follows_the_size_of_the_pool() {
    let size = PoolSize::new(5);
    let adapt = |config: &mut Config| {
        patient(config);
        config.pool_size = size.clone();
    };
    on_both(adapt, async |rig| {
        rig.db.resize(&size, 9);
        let runaway = Runaway::start(rig, 10).await;
        assert_eq!(runaway.load().used, 4);
        rig.db.resize(&size, 5);
        let db = runaway.module.system("a test");
        let more =
            tokio::spawn(async move { db.read("more", async |_| Ok::<_, DbError>(())).await });
        eventually("it to wait", || async {
            (runaway.load().waiting == 7).then_some(())
        })
        .await;
        let module = runaway.module.clone();
        runaway.end().await;
        more.await.unwrap().unwrap();
        let system = module.system("a test");
        let again = system.read("again", async |_| Ok::<_, DbError>(()));
        again.await.unwrap();
        assert_eq!(module.load().unwrap().max, 2);
    })
    .await;
}
