//! The rate of the queue of jobs: no-op jobs, each completed durably, against other queues on the same server.
//!
//! All have eight slots. Peers are their own programs (`benches/peers`), as they are deployed. They are measured as they
//! are set by default, and once more as they are quickest. We end up to 256 jobs in a commit, as the quickest of them do;
//! graphile-worker and pg-boss end each job by itself by default.
//!
//! `DOTMAC_BENCH_JOBS` sets the number of jobs of a round (20,000), `DOTMAC_BENCH_PINNED` for how many seconds a reader keeps
//! its snapshot (600).

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use diesel::{QueryableByName, sql_types::BigInt};
use dotmac_durable::MIGRATIONS;
use dotmac_platform::{
    db::{
        Connection, Db, DbError, MigrateMode, ModuleDb, Target, TenantId, TenantScope, TenantTx,
        types::{Moment, sql::Timestamp},
    },
    jobs::{Enqueue, Job, JobHandler, Rules, Run, Runner},
    on,
    supervision::SupervisorHandle,
};
use serde::{Deserialize, Serialize};

use crate::{
    database::{self, config, target_of},
    report::{Report, median},
    support::Postgres,
};

/// Whose the jobs are: of one tenant and kind, 10,000 may wait.
static TENANTS: LazyLock<[TenantId; 4]> = LazyLock::new(|| [(); 4].map(|()| TenantId::new()));

const SLOTS: u32 = 8;
const ROUNDS: usize = 3;
/// Jobs that one transaction enqueues.
const AT_ONCE: u64 = 1000;

#[derive(Serialize, Deserialize)]
struct Noop {
    number: u64,
}

impl Job for Noop {
    const KIND: &'static str = "bench.noop";
    type Output = ();
    const RULES: Rules = Rules {
        slots: SLOTS,
        ..Rules::DEFAULT
    };
}

/// A queue that jobs are measured on.
struct Peer {
    name: &'static str,
    script: &'static str,
    tuned: bool,
    /// Of the jobs of a round it does one in so many, since it is that much slower.
    one_in: u64,
}

const GRAPHILE: Peer = Peer {
    name: "graphile-worker",
    script: "graphile.cjs",
    tuned: false,
    one_in: 2,
};

const ON_POSTGRES: [Peer; 5] = [
    GRAPHILE,
    Peer {
        name: "graphile-worker, tuned",
        tuned: true,
        one_in: 1,
        ..GRAPHILE
    },
    PG_BOSS,
    Peer {
        name: "pg-boss, by its workers, a thousand at a time",
        tuned: true,
        one_in: 1,
        ..PG_BOSS
    },
    Peer {
        name: "Procrastinate",
        script: "procrastinate_noop.py",
        tuned: false,
        one_in: 20,
    },
];

const PG_BOSS: Peer = Peer {
    name: "pg-boss",
    script: "pgboss.cjs",
    tuned: false,
    one_in: 10,
};

const HUEY: Peer = Peer {
    name: "Huey",
    script: "huey_noop.py",
    tuned: false,
    one_in: 10,
};

pub fn measure(report: &mut Report) {
    actix::System::new().block_on(async {
        on_postgres(report).await;
        on_sqlite(report).await;
        with_a_pinned_snapshot(report).await;
    });
}

async fn on_postgres(report: &mut Report) {
    let server = Postgres::start().await;
    let ours = Ours::start(target_of(&server)).await;
    let mut rates = Vec::new();
    let mut of_peers = ON_POSTGRES.map(|_| Vec::new());
    for round in 0..ROUNDS {
        rates.push(ours.rate(jobs()).await);
        for (at, peer) in ON_POSTGRES.iter().enumerate() {
            let name = format!("peer_{at}_{round}");
            server
                .query(&format!("CREATE DATABASE {name} OWNER dotmac"))
                .await;
            let url = server.url().replace(
                &format!("{}/dotmac", server.port),
                &format!("{}/{name}", server.port),
            );
            of_peers[at].push(peer.rate(&url).await);
        }
    }
    ours.stop().await;
    let rate = median(&mut rates);
    let of_peers = of_peers.map(|mut rates| median(&mut rates));
    let of = |name| ON_POSTGRES.iter().position(|peer| peer.name == name);
    let [graphile, pg_boss] =
        ["graphile-worker", "pg-boss"].map(|name| of(name).map_or(0.0, |at| of_peers[at]));
    let all: Vec<_> = ON_POSTGRES.iter().zip(&of_peers).collect();
    let all: Vec<_> = all
        .iter()
        .map(|(it, rate)| per_second(it, **rate))
        .collect();
    report.row(
        "no-op jobs, PostgreSQL, 8 slots, each product as it is by default; we end up to 256 jobs in a commit",
        "at least graphile-worker and 3 x pg-boss",
        format!("{rate:.0} a second"),
        all.join("; "),
        rate >= graphile && rate >= 3.0 * pg_boss,
    );
}

async fn on_sqlite(report: &mut Report) {
    let directory = tempfile::tempdir().unwrap();
    let ours = Ours::start(Target::Sqlite(directory.path().join("bench.db").into())).await;
    let (mut rates, mut hueys) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        rates.push(ours.rate(jobs() / 4).await);
        let file = directory.path().join(format!("huey-{round}.db"));
        hueys.push(HUEY.rate(&file.display().to_string()).await);
    }
    ours.stop().await;
    let (rate, huey) = (median(&mut rates), median(&mut hueys));
    report.row(
        "no-op jobs, SQLite, 8 slots, each product as it is by default; we end up to 256 jobs in a commit",
        "at least 3 x Huey",
        format!("{rate:.0} a second ({:.1} x)", rate / huey),
        per_second(&HUEY, huey),
        rate >= 3.0 * huey,
    );
}

/// Rows that jobs leave behind cannot be removed while a transaction may still look at them.
async fn with_a_pinned_snapshot(report: &mut Report) {
    let server = Postgres::start().await;
    let ours = Ours::start(target_of(&server)).await;
    let mut clean = Vec::new();
    for _ in 0..ROUNDS {
        clean.push(ours.rate(jobs()).await);
    }
    let (reader, connection) = tokio_postgres::connect(&server.url(), tokio_postgres::NoTls)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let pin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM job";
    reader.batch_execute(pin).await.unwrap();
    let until = Instant::now() + Duration::from_secs(number("DOTMAC_BENCH_PINNED", 600));
    let (mut pinned, mut all) = (Vec::new(), 0);
    while Instant::now() < until || pinned.len() < ROUNDS {
        pinned.push(ours.rate(jobs()).await);
        all += jobs();
    }
    drop(reader);
    connection.abort();
    ours.stop().await;
    let clean = median(&mut clean);
    let at = pinned.len() - ROUNDS;
    let last = median(&mut pinned[at..]);
    report.row(
        "no-op jobs while a reader is idle in its transaction, PostgreSQL",
        "after 10 min at least 0.8 of the rate without it",
        format!(
            "{last:.0} a second ({:.2} x) after {all} jobs",
            last / clean
        ),
        format!("without it: {clean:.0}"),
        last >= 0.8 * clean,
    );
}

/// The queue of this project, and what it has done.
struct Ours {
    db: ModuleDb,
    all: Db,
    supervisor: SupervisorHandle,
    round: Arc<Round>,
}

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// The work of handlers in a round.
struct Round {
    since: Instant,
    /// When the first job began, in nanoseconds since `since`; 0 if none has.
    first: AtomicU64,
}

impl Ours {
    async fn start(target: Target) -> Self {
        let mut config = config(target);
        (config.migrate, config.migrations) = (MigrateMode::Auto, vec![MIGRATIONS]);
        let round = Arc::new(Round {
            since: Instant::now(),
            first: AtomicU64::new(0),
        });
        let noted = Arc::clone(&round);
        let (db, supervisor) = database::start(config, move |db| {
            let noop = JobHandler::new(async move |_: Run<Noop>| {
                noted.note();
                Ok::<_, DbError>(())
            });
            let runner = Runner::new([noop]).unwrap();
            vec![runner.worker("jobs", &db.for_module("jobs", Default::default()))]
        });
        supervisor.until(|board| board.readiness.serves()).await;
        let module = db.for_module("bench", Default::default());
        let ours = Self {
            all: module.system("bench"),
            db: module,
            supervisor,
            round,
        };
        // Makes the queue known, so that it can be paused.
        let since = Moment::now();
        ours.enqueue(0..1).await;
        ours.until_finished(1, since).await;
        ours
    }

    /// Jobs a second, from the first that is begun to the last that is completed.
    async fn rate(&self, jobs: u64) -> f64 {
        let pause = |is_paused| async move {
            let set = async move |tx: &mut dotmac_platform::db::Tx| {
                let queue = dotmac_platform::jobs::DEFAULT_QUEUE;
                if is_paused {
                    dotmac_platform::jobs::pause(tx, queue).await
                } else {
                    dotmac_platform::jobs::resume(tx, queue).await
                }
            };
            self.all.transaction("pause queue", set).await.unwrap();
        };
        pause(true).await;
        for from in (0..jobs).step_by(AT_ONCE as usize) {
            self.enqueue(from..jobs.min(from + AT_ONCE)).await;
        }
        self.round.first.store(0, Relaxed);
        let since = Moment::now();
        pause(false).await;
        self.until_finished(jobs, since).await;
        jobs as f64 / self.round.elapsed().as_secs_f64()
    }

    /// Waits for the commit that completes the last of so many jobs: of those that have finished from `since` on.
    async fn until_finished(&self, jobs: u64, since: Moment) {
        use diesel_async::RunQueryDsl;

        let query = "SELECT count(*) AS number FROM job WHERE finished_at >= $1";
        loop {
            let count = async move |c: &mut Connection| {
                let query = diesel::sql_query(query).bind::<Timestamp, _>(since);
                on!(c, |c| RunQueryDsl::get_result::<Counted>(query, c).await)
            };
            let finished = self.all.read("count jobs", count).await.unwrap();
            if finished.number >= jobs as i64 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn enqueue(&self, numbers: std::ops::Range<u64>) {
        let turn = (numbers.start / AT_ONCE) as usize % TENANTS.len();
        let scope = TenantScope::system(TENANTS[turn], "bench");
        let work = async move |tx: &mut TenantTx| {
            for number in numbers.clone() {
                tx.enqueue(&Noop { number }).await?;
            }
            Ok::<_, DbError>(())
        };
        let db = self.db.tenant(&scope);
        db.transaction("enqueue", work).await.unwrap();
    }

    async fn stop(self) {
        self.supervisor.halt().await;
    }
}

impl Round {
    fn note(&self) {
        let now = self.since.elapsed().as_nanos() as u64;
        self.first.compare_exchange(0, now, Relaxed, Relaxed).ok();
    }

    /// Since the first job began.
    fn elapsed(&self) -> Duration {
        self.since.elapsed() - Duration::from_nanos(self.first.load(Relaxed))
    }
}

impl Peer {
    /// Jobs a second of a process that does them and ends.
    async fn rate(&self, database: &str) -> f64 {
        let jobs = jobs() / self.one_in;
        let mut command = Command::new(self.interpreter());
        command
            .env("NODE_PATH", tools().join("peers/node_modules"))
            .arg(peers().join(self.script))
            .args([database, &jobs.to_string(), &SLOTS.to_string()])
            .args(self.tuned.then_some("tuned"))
            .stderr(Stdio::inherit());
        let run = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = run.await.unwrap();
        assert!(output.status.success(), "{} failed", self.name);
        let text = String::from_utf8(output.stdout).unwrap();
        jobs as f64 / text.trim().parse::<f64>().unwrap()
    }

    fn interpreter(&self) -> PathBuf {
        if self.script.ends_with(".py") {
            tools().join("peers/venv/bin/python")
        } else {
            PathBuf::from("node")
        }
    }
}

fn per_second(peer: &Peer, rate: f64) -> String {
    format!("{}: {rate:.0}", peer.name)
}

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers")
}

fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools")
}

fn jobs() -> u64 {
    number("DOTMAC_BENCH_JOBS", 20_000)
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}
