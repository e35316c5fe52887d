//! The cost of the runtime for a query: against diesel-async with deadpool alone, on the same server.

use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel_async::{
    AsyncPgConnection, RunQueryDsl,
    pooled_connection::{
        AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod, deadpool::Pool as BarePool,
    },
};
use dotmac_platform::{
    db::{
        Config, Credentials, Db, DbActor, MigrateMode, Pool, PoolSize, Postgres as Server, SslMode,
        Target,
    },
    on,
    supervision::{ChildSpec, Policy, Published, SupervisionTree, SupervisorHandle, WorkerSpec},
};
use futures_util::future::join_all;

use crate::{
    report::{Report, percentile, us},
    support::{Postgres, postgres::PASSWORD},
};

diesel::table! {
    point (id) {
        id -> BigInt,
        text -> Text,
    }
}

const CONNECTIONS: usize = 8;

/// New connections and threads for each, since where the system puts those decides more than we do.
const SET_UPS: usize = 24;

/// Of each set-up. Short ones, so that what else the machine does meets all alike.
const ROUNDS: usize = 2;

/// The query, the number of clients, and the queries of each.
const LOADS: [(&str, usize, i64); 2] = [
    ("point select by the runtime, 1 client", 1, 1500),
    (
        "point select by the runtime, 64 clients on 8 connections",
        64,
        200,
    ),
];

/// Times of one query.
#[derive(Default)]
struct Times {
    by_us: Vec<Duration>,
    alone: Vec<Duration>,
    /// As diesel-async sets deadpool up by default.
    checked: Vec<Duration>,
}

pub fn measure(report: &mut Report) {
    let system = actix::System::new();
    let times = system.block_on(async {
        let server = Postgres::start().await;
        let table = "CREATE TABLE point AS SELECT n::bigint AS id, md5(n::text) AS text \
                     FROM generate_series(1, 10000) AS n; ALTER TABLE point ADD PRIMARY KEY (id); \
                     GRANT SELECT ON point TO dotmac";
        server.query(table).await;
        let mut times: [Times; LOADS.len()] = Default::default();
        for _ in 0..SET_UPS {
            rounds(&server, &mut times).await;
        }
        times
    });
    for ((what, ..), mut times) in LOADS.into_iter().zip(times) {
        let by_us = percentile(&mut times.by_us, 0.5);
        let alone = percentile(&mut times.alone, 0.5);
        let checked = percentile(&mut times.checked, 0.5);
        let more = by_us.as_secs_f64() / checked.as_secs_f64() - 1.0;
        report.row(
            what,
            "not slower than diesel-async with deadpool as set up by default",
            format!("{} a query ({:+.1} %)", us(by_us), more * 100.0),
            format!(
                "as set up by default, with a check of each loan: {}; without the check: {}",
                us(checked),
                us(alone)
            ),
            more <= 0.0,
        );
    }
}

/// Alternates the pools on one set-up.
async fn rounds(server: &Postgres, times: &mut [Times]) {
    let (ours, supervisor) = ours(server);
    supervisor.until(|board| board.readiness.serves()).await;
    // The bare pools on a runtime of the same kind, so that all cross the same threads.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let [alone, checked] =
        [RecyclingMethod::Fast, RecyclingMethod::Verified].map(|method| bare(server, method));
    let ask_bare = |pool: &BarePool<AsyncPgConnection>, id| {
        let (pool, runtime) = (pool.clone(), runtime.handle().clone());
        async move { runtime.spawn(select_bare(pool, id)).await.unwrap() }
    };
    for ((_, clients, each), times) in LOADS.into_iter().zip(times) {
        // Opens the connections.
        per_query(clients, 1, |id| select(ours.clone(), id)).await;
        per_query(clients, 1, |id| ask_bare(&alone, id)).await;
        per_query(clients, 1, |id| ask_bare(&checked, id)).await;
        for round in 0..ROUNDS {
            // By turns, so that neither always comes after the other.
            for turn in [round, round + 1] {
                if turn % 2 == 0 {
                    let alone = per_query(clients, each, |id| ask_bare(&alone, id)).await;
                    times.alone.push(alone);
                } else {
                    let by_us = per_query(clients, each, |id| select(ours.clone(), id)).await;
                    times.by_us.push(by_us);
                }
            }
            let checked = per_query(clients, each, |id| ask_bare(&checked, id)).await;
            times.checked.push(checked);
        }
    }
    supervisor.halt().await;
    runtime.shutdown_background();
}

/// Wall time of one query, of `clients` that ask `each` times, one after the other.
async fn per_query<F: Future<Output = String>>(
    clients: usize,
    each: i64,
    ask: impl Fn(i64) -> F,
) -> Duration {
    let ask = &ask;
    let began = Instant::now();
    join_all((0..clients).map(|client| async move {
        for n in 0..each {
            let id = (n * 37 + client as i64 * 101) % 10_000 + 1;
            assert_eq!(ask(id).await.len(), 32);
        }
    }))
    .await;
    began.elapsed() / (clients as u32 * each as u32)
}

async fn select(db: Db, id: i64) -> String {
    let found = db.read("select point", async move |c| {
        on!(c, |c| point::table
            .find(id)
            .select(point::text)
            .first::<String>(c)
            .await)
    });
    found.await.unwrap()
}

async fn select_bare(pool: BarePool<AsyncPgConnection>, id: i64) -> String {
    let mut connection = pool.get().await.unwrap();
    let query = point::table.find(id).select(point::text);
    query.first::<String>(&mut connection).await.unwrap()
}

/// By default it asks `SELECT 1` before each loan, which ours does not.
fn bare(
    server: &Postgres,
    recycling: RecyclingMethod<AsyncPgConnection>,
) -> BarePool<AsyncPgConnection> {
    let mut settings = ManagerConfig::default();
    settings.recycling_method = recycling;
    let manager = AsyncDieselConnectionManager::new_with_config(server.url(), settings);
    BarePool::builder(manager)
        .max_size(CONNECTIONS)
        .build()
        .unwrap()
}

fn ours(server: &Postgres) -> (Db, SupervisorHandle) {
    start(config(target_of(server)), |_| Vec::new())
}

/// The database that tests make on a server.
pub fn target_of(server: &Postgres) -> Target {
    Target::Postgres(Server {
        host: "127.0.0.1".into(),
        port: server.port,
        database: "dotmac".into(),
        credentials: Credentials::fixed(Some("dotmac".into()), Some(PASSWORD.into())),
        ssl_mode: SslMode::Disable,
        ca_cert: None,
        client_cert: None,
    })
}

pub fn config(target: Target) -> Config {
    Config {
        target,
        pool_size: PoolSize::new(CONNECTIONS),
        min_idle: 1,
        pool_timeout: Duration::from_secs(30),
        connect_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(30),
        transaction_timeout: Duration::from_secs(10),
        lock_timeout: Duration::from_secs(10),
        idle_in_transaction_timeout: Duration::from_secs(60),
        max_lifetime: Duration::from_secs(1800),
        slow_query: Duration::from_secs(10),
        migrate: MigrateMode::Off,
        migrations: Vec::new(),
        application_name: "bench".into(),
        observe_runtime: None,
    }
}

/// The runtime's database actor, and workers on it.
pub fn start(
    config: Config,
    workers: impl FnOnce(&Db) -> Vec<WorkerSpec>,
) -> (Db, SupervisorHandle) {
    let slot = Published::<Pool>::new();
    let mut tree = SupervisionTree::new(Policy::default()).unwrap();
    let offered = slot.clone();
    let spec = ChildSpec::new("db", move |life| {
        DbActor::new(life, config.clone(), offered.clone(), None)
    });
    let actor = tree.add(spec.publishes(&slot).required()).unwrap();
    let db = Db::new(slot);
    for worker in workers(&db) {
        tree.add_worker(worker.needs(actor.to_start())).unwrap();
    }
    (db, tree.start())
}
