//! The cost of Vault's faults: time until the report, time until recovery, and failed queries.
//!
//! Real OpenBao (which keeps what it holds on disk), real PostgreSQL, a leased user, and clients that
//! write all the time. Each trouble comes [`ROUNDS`] times; the worst of them counts.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::Value;
use tokio_postgres::NoTls;

use crate::{
    faults::program,
    process::{self, Measured},
    report::{Report, seconds},
    support::{OpenBao, Postgres, eventually},
};

const ROUNDS: usize = 5;
const CLIENTS: u64 = 4;

/// How often the daemon looks, and how long it waits at most between two attempts.
const INTERVAL: Duration = Duration::from_secs(2);
/// The tolerance beyond that: a tenth of jitter, and a second for everything else.
const REPORTED_WITHIN: Duration = Duration::from_millis(3200);
const READY_WITHIN: Duration = Duration::from_secs(3);
/// How long an outage goes on after its report.
const OUTAGE: Duration = Duration::from_secs(3);
/// Between two troubles, so that each meets a daemon that is over the last.
const CALM: Duration = Duration::from_secs(1);

const ROTATIONS: &str = r#"dotmac_secret_rotations_total{result="applied",secret="database"} "#;

#[derive(Clone, Copy)]
enum Trouble {
    Killed,
    Sealed,
    TokenRevoked,
    LeaseRevoked,
}

pub async fn measure(report: &mut Report) {
    let mut bed = Bed::start().await;
    for (trouble, what, target) in [
        (
            Trouble::Killed,
            "Vault killed and restarted, leases valid",
            "reported within 3.2 s, ready 3 s after it serves, no query failed",
        ),
        (
            Trouble::Sealed,
            "Vault sealed and unsealed, leases valid",
            "reported within 3.2 s, ready 3 s after it serves, no query failed",
        ),
        (
            Trouble::TokenRevoked,
            "the token revoked from outside, and with it the database's user",
            "another user within 3.2 s, no query failed",
        ),
        (
            Trouble::LeaseRevoked,
            "the lease revoked from outside (`lease revoke -prefix`)",
            "another user within 3.2 s, no query failed",
        ),
    ] {
        let load = Load::begin(bed.platform.port);
        let mut worst = Outage::default();
        for _ in 0..ROUNDS {
            worst = worst.or(bed.suffer(trouble).await);
        }
        let (sent, failed) = load.end().await;
        let reported = match (worst.reported, &worst.reason) {
            (Some(after), Some(reason)) => format!("`{reason}` reported after {}", seconds(after)),
            _ => "over before there was a state to tell".to_owned(),
        };
        let (since, within) = match trouble {
            Trouble::Killed | Trouble::Sealed => ("it serves", READY_WITHIN),
            Trouble::TokenRevoked | Trouble::LeaseRevoked => ("the fault", REPORTED_WITHIN),
        };
        let baseline = bed.baseline(trouble, worst.outage).await;
        report.row(
            what,
            target,
            format!(
                "{reported}, ready {} after {since}, {failed} of {sent} queries failed; worst of {ROUNDS}",
                seconds(worst.ready)
            ),
            baseline,
            worst.reported.is_none_or(|it| it <= REPORTED_WITHIN) && worst.ready <= within && failed == 0,
        );
    }
}

/// How one trouble went.
#[derive(Default)]
struct Outage {
    /// From its beginning until the probe gave a reason, and the first that it gave.
    reported: Option<Duration>,
    reason: Option<String>,
    /// From its remedy, or from its beginning if it heals by itself, until all was ready again.
    ready: Duration,
    outage: Duration,
}

impl Outage {
    /// The worst of both.
    fn or(self, other: Self) -> Self {
        Self {
            reported: self.reported.max(other.reported),
            reason: self.reason.or(other.reason),
            ready: self.ready.max(other.ready),
            outage: self.outage.max(other.outage),
        }
    }
}

struct Bed {
    platform: Measured,
    bao: OpenBao,
    postgres: Postgres,
    _directory: tempfile::TempDir,
}

impl Bed {
    async fn start() -> Self {
        let (bao, postgres) = tokio::join!(OpenBao::durable(), Postgres::start());
        postgres
            .query("CREATE TABLE ledger (id bigint PRIMARY KEY)")
            .await;
        let directory = tempfile::tempdir().unwrap();
        let mut settings = bao.set_up(&postgres, &[]);
        postgres.query("ALTER TABLE ledger OWNER TO dotmac").await;
        let interval = format!("{}s", INTERVAL.as_secs());
        for key in [
            "DOTMAC_VAULT_REFRESH_INTERVAL",
            "DOTMAC_SUPERVISION_BACKOFF_MAX",
        ] {
            settings.push((key.to_owned(), interval.clone()));
        }
        let settings: Vec<_> = settings
            .iter()
            .map(|(key, value)| (key.as_str(), value.clone()))
            .collect();
        let platform = Measured::this_program(directory.path(), program::ASKED, &settings);
        platform.until("/ready");
        Self {
            platform,
            bao,
            postgres,
            _directory: directory,
        }
    }

    async fn suffer(&mut self, trouble: Trouble) -> Outage {
        self.until_ready().await;
        tokio::time::sleep(CALM).await;
        let (watch, rotations) = (Watch::begin(self.platform.port), self.rotations());
        let begun = Instant::now();
        let remedied = match trouble {
            Trouble::Killed => {
                self.bao.kill();
                self.outage(&watch).await;
                self.bao.restart().await;
                self.unseal().await
            }
            Trouble::Sealed => {
                self.bao.seal().await;
                self.outage(&watch).await;
                self.unseal().await
            }
            Trouble::TokenRevoked => {
                self.bao.revoke("auth/approle").await;
                self.until_rotated(rotations).await;
                begun
            }
            Trouble::LeaseRevoked => {
                self.bao.revoke("database/creds").await;
                self.until_rotated(rotations).await;
                begun
            }
        };
        self.until_ready().await;
        let ready = remedied.elapsed();
        let reported = watch.end();
        Outage {
            reported: reported.as_ref().map(|(at, _)| *at - begun),
            reason: reported.map(|(_, reason)| reason),
            ready,
            outage: remedied - begun,
        }
    }

    /// Until its report, and some time more.
    async fn outage(&self, watch: &Watch) {
        eventually("the report of the outage", || async { watch.reported() }).await;
        tokio::time::sleep(OUTAGE).await;
    }

    /// Unseals it; the moment from which it serves.
    async fn unseal(&self) -> Instant {
        self.bao.unseal(&self.bao.unseal_key()).await;
        eventually("OpenBao to serve", || async {
            let health = self.bao.try_call(Method::GET, "sys/health", Value::Null);
            health.await.map(|_| Instant::now())
        })
        .await
    }

    fn rotations(&self) -> f64 {
        let (_, metrics) = self.platform.get("/metrics").unwrap_or_default();
        let series = metrics.lines().find_map(|it| it.strip_prefix(ROTATIONS));
        series.and_then(|it| it.parse().ok()).unwrap_or(0.0)
    }

    async fn until_rotated(&self, before: f64) {
        eventually("another user", || async {
            (self.rotations() > before).then_some(())
        })
        .await;
    }

    async fn until_ready(&self) {
        eventually("all to be ready", || async {
            let (_, body) = self.platform.get("/ready")?;
            body.starts_with(r#"{"status":"ready""#).then_some(())
        })
        .await;
    }

    /// The behaviour of a program with the alternative method.
    async fn baseline(&self, trouble: Trouble, outage: Duration) -> String {
        match trouble {
            Trouble::Killed | Trouble::Sealed => format!(
                "read from Vault at each use: fails for all of the {}",
                seconds(outage)
            ),
            Trouble::TokenRevoked => {
                "a token from the environment: until an operator sets another".to_owned()
            }
            Trouble::LeaseRevoked => {
                let (refused, tried) = self.fixed_user_after_its_lease().await;
                format!(
                    "a user read once at the start: {refused} of {tried} new connections refused, until a restart"
                )
            }
        }
    }

    /// Connections that PostgreSQL refuses to a user whose lease was revoked, of how many.
    async fn fixed_user_after_its_lease(&self) -> (usize, usize) {
        const TRIED: usize = 10;
        let path = "database/creds/dotmac";
        let made = self.bao.call(Method::GET, path, Value::Null).await;
        let of = |field: &str| made["data"][field].as_str().unwrap().to_owned();
        let url = format!(
            "host=127.0.0.1 port={} dbname=dotmac user={} password={}",
            self.postgres.port,
            of("username"),
            of("password")
        );
        assert!(tokio_postgres::connect(&url, NoTls).await.is_ok());
        self.bao.revoke(path).await;
        let mut refused = 0;
        for _ in 0..TRIED {
            refused += usize::from(tokio_postgres::connect(&url, NoTls).await.is_err());
        }
        (refused, TRIED)
    }
}

/// When the probe first gave a reason for secrets or the database, and which.
type Reported = Option<(Instant, String)>;

/// Asks the probe all the time.
struct Watch {
    reported: Arc<Mutex<Reported>>,
    stop: Arc<AtomicBool>,
    looking: JoinHandle<()>,
}

impl Watch {
    fn begin(port: u16) -> Self {
        let (reported, stop) = (
            Arc::<Mutex<Reported>>::default(),
            Arc::<AtomicBool>::default(),
        );
        let (tell, until) = (Arc::clone(&reported), Arc::clone(&stop));
        let looking = std::thread::spawn(move || {
            while !until.load(Relaxed) {
                let reason = process::get(port, "/ready").and_then(|(_, body)| reason(&body));
                if let Some(reason) = reason {
                    tell.lock().unwrap().get_or_insert((Instant::now(), reason));
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self {
            reported,
            stop,
            looking,
        }
    }

    fn reported(&self) -> Reported {
        self.reported.lock().unwrap().clone()
    }

    fn end(self) -> Reported {
        self.stop.store(true, Relaxed);
        self.looking.join().unwrap();
        self.reported.lock().unwrap().take()
    }
}

fn reason(body: &str) -> Option<String> {
    let body: Value = serde_json::from_str(body).ok()?;
    let of = |component: &str| body["components"][component]["reason"].as_str();
    of("secrets").or_else(|| of("db")).map(str::to_owned)
}

/// Clients that write rows all the time.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<(u64, u64)>>,
}

impl Load {
    fn begin(port: u16) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let clients = (0..CLIENTS)
            .map(|_| tokio::spawn(write(port, Arc::clone(&stop))))
            .collect();
        Self { stop, clients }
    }

    /// Queries sent and failed.
    async fn end(self) -> (u64, u64) {
        self.stop.store(true, Relaxed);
        let (mut sent, mut failed) = (0, 0);
        for client in self.clients {
            let (more, bad) = client.await.unwrap();
            sent += more;
            failed += bad;
        }
        (sent, failed)
    }
}

async fn write(port: u16, stop: Arc<AtomicBool>) -> (u64, u64) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(20))
        .build()
        .unwrap();
    let (mut sent, mut failed) = (0, 0);
    while !stop.load(Relaxed) {
        let id = NEXT.fetch_add(1, Relaxed);
        let url = format!("http://127.0.0.1:{port}/faults/ledger?id={id}&ms=5");
        let answer = http.post(url).send().await;
        sent += 1;
        let said = match answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(answer.text().await.unwrap_or_default()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(said) = said {
            failed += 1;
            println!("failed: {said}");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (sent, failed)
}
