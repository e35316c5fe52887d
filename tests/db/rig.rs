//! A database actor alone in its tree.

use std::{path::Path, time::Duration};

use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use dotmac_platform::{
    db::{
        Config, Credentials, Db, DbActor, MigrateMode, Migrations, Pool, PoolSize, Postgres,
        SslMode, Target,
    },
    on,
    supervision::{Board, ChildSpec, Policy, Published, SupervisionTree, SupervisorHandle},
};

use crate::support::{self, postgres::PASSWORD};

static POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");
static SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

pub const MIGRATIONS: Migrations = Migrations {
    postgres: &POSTGRES,
    sqlite: &SQLITE,
};

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
        lock_timeout: Duration::from_secs(10),
        idle_in_transaction_timeout: Duration::from_secs(60),
        max_lifetime: Duration::from_secs(1800),
        slow_query: Duration::from_secs(10),
        migrate: MigrateMode::Auto,
        migrations: vec![MIGRATIONS],
        application_name: "test".to_owned(),
    }
}

pub fn sqlite(directory: &Path) -> Target {
    Target::Sqlite(directory.join("test.db"))
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
        use diesel_async::RunQueryDsl as _;
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
