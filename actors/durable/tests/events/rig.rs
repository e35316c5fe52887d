//! A database with the tables of the log, and workers on it.

use std::{path::Path, time::Duration};

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_db::{
    Config, Connection, Credentials, Db, DbActor, DbError, MigrateMode, ModuleDb, Pool, PoolSize,
    Postgres, Share, SslMode, Target, TenantId, TenantScope, Tx, on,
};
use dotmac_durable::{
    MIGRATIONS,
    events::{Event, Position},
};
use dotmac_supervision::{
    Board, ChildSpec, Exhausted, Policy, Published, SupervisionTree, SupervisorHandle, WorkerSpec,
};
use serde::{Deserialize, Serialize};

use crate::support::{self, postgres::PASSWORD};

/// One instance of a program: a database actor, and workers.
pub struct Rig {
    pub db: ModuleDb,
    /// The same without a module.
    root: Db,
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
    /// Starts one; needs an actix system. With a table of effects.
    pub async fn start(
        target: &Target,
        workers: impl FnOnce(&ModuleDb) -> Vec<WorkerSpec>,
    ) -> Self {
        let (slot, config) = (Published::<Pool>::new(), config(target.clone()));
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
        let table = "CREATE TABLE IF NOT EXISTS effect (subscriber TEXT NOT NULL, number BIGINT NOT NULL, place TEXT NOT NULL)";
        rig.run(table).await;
        rig
    }

    /// The way to the database for another module.
    pub fn of_module(&self, name: &'static str) -> ModuleDb {
        self.root.for_module(name, Share::HALF)
    }

    pub async fn until(&self, condition: impl Fn(&Board) -> bool) {
        let waiting = self.supervisor.until(condition);
        let waited = tokio::time::timeout(support::PATIENCE, waiting).await;
        assert!(waited.is_ok(), "{:?}", self.supervisor.board());
    }

    pub async fn until_reason(&self, component: &str, reason: &str) {
        let has = |board: &Board| {
            let found = board.components.iter().find(|it| it.name == component);
            found
                .and_then(|it| it.reason)
                .is_some_and(|it| it.as_str() == reason)
        };
        self.until(has).await;
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

    /// Commits one event for each number.
    pub async fn emit(&self, numbers: std::ops::Range<i64>) {
        for number in numbers {
            patiently(async || {
                let emit = async move |tx: &mut dotmac_db::TenantTx| {
                    use dotmac_durable::events::Emit as _;
                    tx.emit(&Counted::new(number))?;
                    Ok(())
                };
                let db = self.db.tenant(&scope());
                db.transaction("emit", emit).await
            })
            .await;
        }
    }

    /// The effects of one subscriber, in the order of the log.
    pub async fn effects(&self, subscriber: &'static str) -> Vec<(i64, String)> {
        patiently(async || {
            let read = async move |c: &mut Connection| {
                let query = effect::table
                    .filter(effect::subscriber.eq(subscriber))
                    .order(effect::place)
                    .select((effect::number, effect::place));
                on!(c, |c| query.load(c).await)
            };
            self.system().read("read effects", read).await
        })
        .await
    }

    pub async fn until_effects(&self, subscriber: &'static str, expected: &[i64]) {
        support::eventually(&format!("effects {expected:?}"), || async {
            let effects = self.effects(subscriber).await;
            let numbers: Vec<_> = effects.iter().map(|(number, _)| *number).collect();
            (numbers == expected).then_some(())
        })
        .await;
    }
}

diesel::table! {
    effect (place) {
        subscriber -> Text,
        number -> BigInt,
        place -> Text,
    }
}

/// The effect of an event: a row.
pub async fn have_effect(
    tx: &mut Tx,
    subscriber: &'static str,
    number: i64,
    place: Position,
) -> Result<(), DbError> {
    let row = (
        effect::subscriber.eq(subscriber),
        effect::number.eq(number),
        effect::place.eq(place.to_string()),
    );
    on!(tx, |c| diesel::insert_into(effect::table)
        .values(row)
        .execute(c)
        .await)
    .map(drop)
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

/// How many rows of the log a transaction sees, whatever it filters by.
pub async fn rows_seen(tx: &mut Tx) -> Result<i64, DbError> {
    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        number: i64,
    }
    let rows = diesel::sql_query("SELECT count(*) AS number FROM event");
    let count: Count = on!(tx, |c| rows.get_result(c).await)?;
    Ok(count.number)
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Counted {
    pub number: i64,
    pub text: String,
}

impl Counted {
    pub fn new(number: i64) -> Self {
        let text = String::new();
        Self { number, text }
    }
}

impl Event for Counted {
    const TYPE: &'static str = "test.counted.v1";

    fn subject(&self) -> String {
        format!("numbers/{}", self.number)
    }

    /// One of three.
    fn partition_key(&self) -> String {
        format!("lane {}", self.number % 3)
    }
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
