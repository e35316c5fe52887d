//! A database actor alone in its tree.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use diesel::{Connection as _, connection::SimpleConnection, prelude::*};
use diesel_async::RunQueryDsl;
use dotmac_platform::{
    MIGRATIONS,
    db::{
        Config, Connection, Credentials, Db, DbActor, DbError, MigrateMode, Pool, PoolSize,
        Postgres, SslMode, Target,
    },
    on,
    supervision::{Board, ChildSpec, Policy, Published, SupervisionTree, SupervisorHandle},
};

use tokio::task::JoinHandle;

use crate::support::{self, postgres::PASSWORD};

pub struct Rig {
    pub db: Db,
    pub supervisor: SupervisorHandle,
}

/// Settings that suit a test; change what matters to it.
pub fn config(target: Target) -> Config {
    Config {
        target,
        pool_size: PoolSize::new(4),
        min_idle: 1,
        pool_timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(30),
        transaction_timeout: Duration::from_secs(60),
        lock_timeout: Duration::from_secs(10),
        idle_in_transaction_timeout: Duration::from_secs(60),
        max_lifetime: Duration::from_secs(1800),
        slow_query: Duration::from_secs(10),
        migrate: MigrateMode::Auto,
        migrations: vec![MIGRATIONS],
        application_name: "test".to_owned(),
        observe_runtime: None,
    }
}

pub fn sqlite(directory: &Path) -> Target {
    Target::Sqlite(directory.join("test.db").into())
}

pub fn postgres(server: &support::Postgres) -> Postgres {
    Postgres {
        host: "127.0.0.1".to_owned(),
        port: server.port,
        database: "dotmac".to_owned(),
        credentials: Credentials::fixed(Some("dotmac".to_owned()), Some(PASSWORD.into())),
        ssl_mode: SslMode::Disable,
        ca_cert: None,
        client_cert: None,
    }
}

/// Runs `sql` on its own connection, outside of the tested code.
pub async fn execute(target: &Target, sql: &str) {
    match target {
        Target::Sqlite(file) => {
            let file = file.path().to_str().unwrap();
            let mut connection = SqliteConnection::establish(file).unwrap();
            connection.batch_execute(sql).unwrap();
        }
        Target::Postgres(Postgres { port, .. }) => {
            let url = format!("postgres://dotmac:{PASSWORD}@127.0.0.1:{port}/dotmac");
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
                .await
                .unwrap();
            let driver = tokio::spawn(connection);
            client.batch_execute(sql).await.unwrap();
            drop(client);
            driver.await.unwrap().unwrap();
        }
    }
}

impl Rig {
    /// Starts the actor; needs an actix system.
    pub fn start(config: Config) -> Self {
        let slot = Published::<Pool>::new();
        let mut tree = SupervisionTree::new(Policy::default()).unwrap();
        let offered = slot.clone();
        let spec = ChildSpec::new("db", move |life| {
            DbActor::new(life, config.clone(), offered.clone(), None)
        });
        tree.add(spec.publishes(&slot).required()).unwrap();
        Self {
            db: Db::new(slot),
            supervisor: tree.start(),
        }
    }

    pub async fn ready(config: Config) -> Self {
        let rig = Self::start(config);
        rig.until(|board| board.readiness.serves()).await;
        rig
    }

    pub async fn until(&self, condition: impl Fn(&Board) -> bool) {
        let waiting = self.supervisor.until(condition);
        let waited = tokio::time::timeout(support::PATIENCE, waiting).await;
        assert!(waited.is_ok(), "{:?}", self.supervisor.board());
    }

    pub async fn until_reason(&self, reason: &str) {
        self.until_reason_one_of(&[reason]).await;
    }

    pub async fn until_reason_one_of(&self, reasons: &[&str]) {
        self.until(|board| {
            board.components[0]
                .reason
                .is_some_and(|it| reasons.contains(&it.as_str()))
        })
        .await;
    }

    /// A table for the test's own rows.
    pub async fn with_notes(self) -> Self {
        self.run("CREATE TABLE note (id BIGINT NOT NULL PRIMARY KEY, text TEXT NOT NULL)")
            .await;
        self
    }

    pub async fn run(&self, sql: &'static str) {
        let ran = self
            .db
            .run("run", async move |c| {
                on!(c, |c| diesel::sql_query(sql).execute(c).await)
            })
            .await;
        ran.unwrap();
    }
}

diesel::table! {
    note (id) {
        id -> BigInt,
        text -> Text,
    }
}

pub async fn insert(c: &mut Connection, id: i64) -> Result<usize, DbError> {
    let row = (note::id.eq(id), note::text.eq("text"));
    on!(c, |c| diesel::insert_into(note::table)
        .values(row)
        .execute(c)
        .await)
}

/// How many rows there are.
pub async fn count(db: &Db) -> i64 {
    db.run("count", async |c| {
        on!(c, |c| note::table.count().get_result(c).await)
    })
    .await
    .unwrap()
}

pub async fn is_postgres(db: &Db) -> bool {
    db.read("which back end", async |c| {
        Ok::<_, DbError>(matches!(c, Connection::Postgres(_)))
    })
    .await
    .unwrap()
}

/// A transaction that inserts a row, waits until it is let go on, and then inserts another or fails.
pub struct Halfway {
    begun: Arc<AtomicBool>,
    go_on: Arc<AtomicBool>,
    caller: JoinHandle<Result<(), DbError>>,
}

impl Halfway {
    /// One that is under way: its row is inserted.
    pub async fn start(db: &Db, first: i64, fails: bool) -> Self {
        let (begun, go_on) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (has_begun, may_go_on, db) = (Arc::clone(&begun), Arc::clone(&go_on), db.clone());
        let caller = tokio::spawn(async move {
            db.transaction("halfway", async move |c| {
                insert(c, first).await?;
                has_begun.store(true, Relaxed);
                while !AtomicBool::load(&may_go_on, Relaxed) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                if fails {
                    return Err(DbError::from(diesel::result::Error::RollbackTransaction));
                }
                insert(c, first + 1).await?;
                Ok(())
            })
            .await
        });
        let work = Self {
            begun,
            go_on,
            caller,
        };
        support::eventually("the transaction to be under way", || async {
            AtomicBool::load(&work.begun, Relaxed).then_some(())
        })
        .await;
        work
    }

    /// Lets it go on; the result of its caller.
    pub async fn end(self) -> Result<(), DbError> {
        self.go_on.store(true, Relaxed);
        let ended = tokio::time::timeout(support::PATIENCE, self.caller).await;
        ended.unwrap().unwrap()
    }

    /// Lets it go on after its caller is gone.
    pub async fn end_without_caller(self) {
        self.caller.abort();
        assert!(self.caller.await.unwrap_err().is_cancelled());
        self.go_on.store(true, Relaxed);
    }
}

/// Runs `test` on both back ends, each with a configuration that `adapt` has changed.
pub async fn on_both(adapt: impl Fn(&mut Config), test: impl AsyncFn(&Rig)) {
    let server = support::Postgres::start().await;
    let directory = tempfile::tempdir().unwrap();
    for target in [
        sqlite(directory.path()),
        Target::Postgres(postgres(&server)),
    ] {
        let mut config = config(target);
        adapt(&mut config);
        let rig = Rig::ready(config).await.with_notes().await;
        test(&rig).await;
        rig.supervisor.halt().await;
    }
}
