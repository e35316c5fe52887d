//! One instance of a program: a database with the tables of this crate, and workers on it.

use std::{path::Path, time::Duration};

use diesel_async::RunQueryDsl;
use dotmac_db::{
    Config, Credentials, Db, DbActor, DbError, MigrateMode, ModuleDb, Pool, PoolSize, Postgres,
    Share, SslMode, Target, TenantId, TenantScope, Tx, on,
};
use dotmac_durable::MIGRATIONS;
use dotmac_supervision::{
    Board, ChildSpec, Exhausted, Policy, Published, SupervisionTree, SupervisorHandle, WorkerSpec,
};

use crate::support::{self, postgres::PASSWORD};

/// One instance of a program: a database actor, and workers.
pub struct Rig {
    pub db: ModuleDb,
    /// The same without a module.
    pub root: Db,
    pub supervisor: SupervisorHandle,
}

pub fn config(target: Target) -> Config {
    Config {
        target,
        pool_size: PoolSize::new(10),
        min_idle: 1,
        pool_timeout: Duration::from_secs(20),
        connect_timeout: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(30),
        transaction_timeout: Duration::from_secs(60),
        lock_timeout: Duration::from_secs(20),
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

pub fn postgres(port: u16) -> Target {
    Target::Postgres(Postgres {
        host: "127.0.0.1".to_owned(),
        port,
        database: "dotmac".to_owned(),
        credentials: Credentials::fixed(Some("dotmac".to_owned()), Some(PASSWORD.into())),
        ssl_mode: SslMode::Disable,
        ca_cert: None,
        client_cert: None,
    })
}

impl Rig {
    /// Starts one; needs an actix system. With a table that `table` makes.
    pub async fn start_with(
        table: &'static str,
        target: &Target,
        workers: impl FnOnce(&ModuleDb) -> Vec<WorkerSpec>,
    ) -> Self {
        Self::start_configured(table, config(target.clone()), workers).await
    }

    /// The same with settings of its own.
    pub async fn start_configured(
        table: &'static str,
        config: Config,
        workers: impl FnOnce(&ModuleDb) -> Vec<WorkerSpec>,
    ) -> Self {
        let slot = Published::<Pool>::new();
        let mut tree = SupervisionTree::new(Policy::default()).unwrap();
        let offered = slot.clone();
        let spec = ChildSpec::new("db", move |life| {
            DbActor::new(life, config.clone(), offered.clone(), None)
        });
        let actor = tree.add(spec.publishes(&slot).required()).unwrap();
        let root = Db::new(slot);
        let db = root.for_module("test", Share::HALF);
        for worker in workers(&db) {
            let worker = worker.when_exhausted(Exhausted::Fail);
            tree.add_worker(worker.needs(actor.to_start())).unwrap();
        }
        let rig = Self {
            db,
            root,
            supervisor: tree.start(),
        };
        rig.until(|board| board.readiness.serves()).await;
        // `IF NOT EXISTS` fails where another instance makes the table at the same moment; then it is there.
        let make = async move |tx: &mut Tx| on!(tx, |c| diesel::sql_query(table).execute(c).await);
        let made = rig.system().transaction("make table", make).await;
        if made.is_err() {
            rig.run(table).await;
        }
        rig
    }

    pub async fn until(&self, condition: impl Fn(&Board) -> bool) {
        let waiting = self.supervisor.until(condition);
        let waited = tokio::time::timeout(support::PATIENCE, waiting).await;
        assert!(waited.is_ok(), "{:?}", self.supervisor.board());
    }

    pub fn system(&self) -> Db {
        self.db.system("test")
    }

    pub async fn run(&self, sql: &'static str) {
        patiently(async || {
            let run = async move |tx: &mut Tx| on!(tx, |c| diesel::sql_query(sql).execute(c).await);
            self.system().transaction("run", run).await
        })
        .await;
    }
}

/// What `attempt` gives once it is not refused for now: a loaded machine may take the database for one that is away.
/// Nothing is left of an attempt that was.
pub async fn patiently<T>(attempt: impl AsyncFn() -> Result<T, DbError>) -> T {
    support::eventually("the database", || async {
        match attempt().await {
            Err(error) if error.retry_after().is_some() => None,
            done => Some(done.unwrap()),
        }
    })
    .await
}

pub fn scope() -> TenantScope {
    TenantScope::system(TenantId::from_uuid(uuid::Uuid::from_u128(1)), "test")
}

/// Runs `test` on both back ends.
pub async fn on_both(test: impl AsyncFn(Target)) {
    let server = support::Postgres::start().await;
    let directory = tempfile::tempdir().unwrap();
    test(sqlite(directory.path())).await;
    test(postgres(server.port)).await;
}
