//! The platform with all that it depends on, and what can be done to each of them.

use std::{
    fmt,
    io::Write,
    net::TcpStream,
    time::{Duration, Instant},
};

use super::{Fault, program, watch::Watch};
use crate::{
    process::Measured,
    support::{
        OpenBao, PATIENCE, Postgres, collector::Collector, openbao::ROOT_TOKEN, postgres::PASSWORD,
    },
};

/// Hangs are noticed soon, so that many can be had.
const HANG_AFTER: Duration = Duration::from_millis(500);

pub struct Bed {
    pub platform: Measured,
    pub postgres: Postgres,
    bao: OpenBao,
    collector: Collector,
    http: reqwest::Client,
    _directory: tempfile::TempDir,
}

impl Bed {
    pub async fn start() -> Self {
        let (bao, postgres, collector) =
            tokio::join!(OpenBao::start(), Postgres::start(), Collector::start());
        postgres
            .query("CREATE TABLE ledger (id bigint PRIMARY KEY)")
            .await;
        postgres.query("ALTER TABLE ledger OWNER TO dotmac").await;
        provision(&bao).await;
        let directory = tempfile::tempdir().unwrap();
        let platform = Measured::this_program(
            directory.path(),
            program::ASKED,
            &[
                ("DOTMAC_VAULT_ADDR", bao.address()),
                ("DOTMAC_VAULT_TOKEN", ROOT_TOKEN.to_owned()),
                ("DOTMAC_VAULT_REFRESH_INTERVAL", "1s".to_owned()),
                (
                    "DOTMAC_DATABASE_URL",
                    format!("postgres://127.0.0.1:{}/dotmac", postgres.port),
                ),
                ("DOTMAC_TELEMETRY_OTLP_ENDPOINT", collector.endpoint()),
                ("DOTMAC_TELEMETRY_METRIC_INTERVAL", "1s".to_owned()),
                ("DOTMAC_TELEMETRY_LOG_LEVEL", "off".to_owned()),
                ("DOTMAC_SUPERVISION_INTENSITY", "1000".to_owned()),
                ("DOTMAC_SUPERVISION_PERIOD", "1m".to_owned()),
                ("DOTMAC_SUPERVISION_BACKOFF_MIN", "1ms".to_owned()),
                ("DOTMAC_SUPERVISION_BACKOFF_MAX", "20ms".to_owned()),
                ("DOTMAC_SUPERVISION_HEARTBEAT", "100ms".to_owned()),
                (
                    "DOTMAC_SUPERVISION_HANG_AFTER",
                    format!("{}ms", HANG_AFTER.as_millis()),
                ),
                ("DOTMAC_SUPERVISION_STOP_TIMEOUT", "200ms".to_owned()),
                ("DOTMAC_SUPERVISION_MAX_LEAKED_THREADS", "100".to_owned()),
            ],
        );
        platform.until("/ready");
        Self {
            platform,
            postgres,
            bao,
            collector,
            http: reqwest::Client::builder()
                .no_proxy()
                .timeout(PATIENCE)
                .build()
                .unwrap(),
            _directory: directory,
        }
    }

    /// Breaks something, for `time` if it does not mend by itself.
    pub async fn suffer(&mut self, fault: Fault, time: Duration, watch: &Watch) {
        match fault {
            Fault::ActorPanics => self.ask("actor/panic").await,
            Fault::ActorStops => self.ask("actor/stop").await,
            Fault::ActorHangs => {
                let ms = (HANG_AFTER + time / 4).as_millis();
                self.ask(&format!("actor/hang?ms={ms}")).await;
            }
            Fault::HandlerPanics => self.ask("panic").await,
            Fault::ClientLeaves => self.leave_in_a_transaction(),
            Fault::ConnectionsEnd => {
                let all = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'dotmac'";
                self.postgres.query(all).await;
            }
            Fault::DatabaseDies => {
                self.postgres.kill().await;
                self.outage(time, watch).await;
                self.postgres.restart().await;
            }
            Fault::DatabaseFreezes => {
                self.postgres.freeze();
                self.outage(time, watch).await;
                self.postgres.thaw();
            }
            Fault::DatabaseRefusesWrites => {
                self.set_read_only("on").await;
                self.outage(time, watch).await;
                self.set_read_only("off").await;
            }
            Fault::VaultDies => {
                self.bao.kill();
                tokio::time::sleep(time).await;
                self.bao.restart().await;
                provision(&self.bao).await;
            }
            Fault::VaultFreezes => {
                self.bao.freeze();
                tokio::time::sleep(time).await;
                self.bao.thaw();
            }
            Fault::VaultSeals => {
                self.bao.seal().await;
                tokio::time::sleep(time).await;
                self.bao.kill();
                self.bao.restart().await;
                provision(&self.bao).await;
            }
            Fault::CollectorFreezes => {
                self.collector.freeze();
                tokio::time::sleep(time).await;
                self.collector.thaw();
            }
        }
    }

    /// A required part is away for so long; meanwhile an actor fails as well.
    async fn outage(&self, time: Duration, watch: &Watch) {
        watch.broken();
        tokio::time::sleep(time / 2).await;
        self.ask("actor/panic").await;
        tokio::time::sleep(time / 2).await;
        watch.mending();
    }

    /// Waits until all is as it was.
    pub async fn recovers(&self, fault: Fault) {
        let began = Instant::now();
        let is_ready = || {
            let answer = self.platform.get("/ready");
            answer.is_some_and(|(_, body)| body.starts_with(r#"{"status":"ready""#))
        };
        while !(is_ready() && self.ping().await) {
            assert!(
                began.elapsed() < PATIENCE,
                "after {fault:?}: {:?}",
                self.platform.get("/ready")
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The resources of the process after a pause.
    pub async fn usage(&self) -> Usage {
        tokio::time::sleep(Duration::from_secs(3)).await;
        Usage {
            memory: self.platform.memory(),
            descriptors: self.platform.count("fd"),
            threads: self.platform.count("task"),
        }
    }

    async fn ask(&self, what: &str) {
        // Refused or not, that it is answered at all is what the watch looks after.
        self.post(what).await.ok();
    }

    async fn ping(&self) -> bool {
        let answer = self.post("actor/ping").await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    async fn post(&self, what: &str) -> reqwest::Result<reqwest::Response> {
        let url = format!("http://127.0.0.1:{}/faults/{what}", self.platform.port);
        self.http.post(url).send().await
    }

    /// Negative ids belong to no tenant: they are not counted as written.
    fn leave_in_a_transaction(&self) {
        let mut client = TcpStream::connect(("127.0.0.1", self.platform.port)).unwrap();
        let id = -fastrand::i64(1..i64::MAX);
        let request = format!(
            "POST /faults/ledger?id={id}&ms=50 HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
        );
        client.write_all(request.as_bytes()).unwrap();
    }

    async fn set_read_only(&self, value: &str) {
        let setting = format!("ALTER SYSTEM SET default_transaction_read_only = {value}");
        // In its own session setting: the second call would be refused otherwise.
        self.postgres
            .query("ALTER ROLE postgres SET default_transaction_read_only = off")
            .await;
        self.postgres.query(&setting).await;
        self.postgres.query("SELECT pg_reload_conf()").await;
    }
}

async fn provision(bao: &OpenBao) {
    bao.write("database/username", "value", "dotmac").await;
    bao.write("database/password", "value", PASSWORD).await;
}

/// The resources of a process.
pub struct Usage {
    memory: f64,
    descriptors: usize,
    threads: usize,
}

impl Usage {
    /// Room for a pool that has grown, an allocator's reserve and a thread about to end.
    pub fn is_flat_since(&self, before: &Self) -> bool {
        self.memory <= before.memory * 1.15 + 1.0
            && self.descriptors <= before.descriptors + 8
            && self.threads <= before.threads + 4
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            memory,
            descriptors,
            threads,
        } = self;
        write!(f, "{memory:.1} MiB, {descriptors}, {threads}")
    }
}
