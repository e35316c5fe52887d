//! Webhooks: deliveries against a bare loop of reqwest, and what one endpoint that hangs costs the others. This program is
//! run once more as the platform with the module; the receiver is in this process.

use std::{
    collections::HashMap,
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use dotmac_platform::Platform;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    caller::OneCaller,
    process::Measured,
    report::{Report, median, ms, percentile},
    support::{self, Postgres},
};

/// Variable that turns this program into the platform.
pub const ASKED: &str = "WEBHOOKS_SERVER";
const ROUNDS: usize = 3;
/// Endpoints of the first part, each with five attempts at once: 60 together.
const ENDPOINTS: usize = 12;
const EVENTS: usize = 300;
/// How long a receiver takes that does something before it answers.
const AT_WORK: Duration = Duration::from_millis(10);
/// Of the second part.
const MANY: usize = 100;
const PER_SECOND: u64 = 50;
const SECONDS: u64 = 10;

pub fn asked_for() -> bool {
    std::env::var_os(ASKED).is_some()
}

pub fn serve() -> ExitCode {
    Platform::new("webhooks", env!("CARGO_PKG_VERSION"))
        .authenticator(OneCaller)
        .module::<dotmac_events::Events>()
        .module::<dotmac_webhooks::Webhooks>()
        .main()
}

/// A receiver of HTTP with as little ceremony as possible; paths are the numbers of endpoints.
#[derive(Default)]
struct Receiver {
    arrived: Mutex<Vec<(String, Instant)>>,
    count: AtomicUsize,
    /// How long each answer takes, in milliseconds.
    takes: AtomicU64,
    /// Whether the endpoint 0 does not answer.
    hangs: AtomicBool,
}

impl Receiver {
    async fn start() -> (Arc<Self>, u16) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let receiver = Arc::<Self>::default();
        let serving = Arc::clone(&receiver);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(Arc::clone(&serving).serve(stream));
            }
        });
        (receiver, port)
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        let mut buffer = Vec::new();
        loop {
            let Some((path, id, length)) = head(&buffer) else {
                match stream.read_buf(&mut buffer).await {
                    Ok(1..) => continue,
                    _ => return,
                }
            };
            if buffer.len() < length {
                match stream.read_buf(&mut buffer).await {
                    Ok(1..) => continue,
                    _ => return,
                }
            }
            buffer.drain(..length);
            if path == "/0" && self.hangs.load(SeqCst) {
                std::future::pending::<()>().await;
            }
            let takes = Duration::from_millis(self.takes.load(SeqCst));
            if !takes.is_zero() {
                tokio::time::sleep(takes).await;
            }
            self.arrived.lock().unwrap().push((id, Instant::now()));
            self.count.fetch_add(1, SeqCst);
            let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    }

    async fn until(&self, count: usize) {
        support::eventually("deliveries", || async {
            (self.count.load(SeqCst) >= count).then_some(())
        })
        .await;
    }

    fn take(&self) -> Vec<(String, Instant)> {
        self.count.store(0, SeqCst);
        std::mem::take(&mut *self.arrived.lock().unwrap())
    }
}

/// Path, `webhook-id` and length of a request, once its head is there.
fn head(buffer: &[u8]) -> Option<(String, String, usize)> {
    let end = buffer.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&buffer[..end]).unwrap();
    let header = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(it, _)| it.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.to_owned())
    };
    let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
    let length: usize = header("content-length").map_or(0, |it| it.parse().unwrap());
    Some((path, header("webhook-id").unwrap_or_default(), end + length))
}

struct Bed {
    platform: Measured,
    client: reqwest::Client,
    receiver: Arc<Receiver>,
    port: u16,
    server: Postgres,
    _directory: tempfile::TempDir,
}

impl Bed {
    async fn open() -> Self {
        let (server, directory) = (Postgres::start().await, tempfile::tempdir().unwrap());
        let (receiver, port) = Receiver::start().await;
        let settings = [
            ("DOTMAC_DATABASE_URL", server.url()),
            (
                "DOTMAC_APP_MASTER_KEY",
                "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=".to_owned(),
            ),
            ("DOTMAC_WEBHOOKS_MAX_ENDPOINTS", "1000".to_owned()),
            ("DOTMAC_EGRESS_PER_HOST", "1000".to_owned()),
        ];
        let platform = Measured::this_program(directory.path(), ASKED, &settings);
        platform.until("/ready");
        Self {
            platform,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            receiver,
            port,
            server,
            _directory: directory,
        }
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let url = format!("http://127.0.0.1:{}/api/v1{path}", self.platform.port);
        let answer = self.client.post(url).json(&body).send().await.unwrap();
        let status = answer.status();
        let body: Value = answer.json().await.unwrap_or_default();
        assert!(status.is_success(), "{path}: {status} {body}");
        body
    }

    async fn endpoint(&self, number: usize, events: &str) -> String {
        let url = format!("http://127.0.0.1:{}/{number}", self.port);
        let made = self.post("/webhooks", json!({ "url": url, "events": [events] }));
        made.await["id"].as_str().unwrap().to_owned()
    }

    /// Emits an event; its id.
    async fn event(&self, kind: &str) -> String {
        let body =
            json!({ "type": kind, "subject": "orders/7", "data": { "text": "x".repeat(200) } });
        let made = self.post("/events", body).await;
        made["id"].as_str().unwrap().to_owned()
    }
}

/// Transactions that were committed so far, of the database that webhooks are in.
async fn transactions(bed: &Bed) -> f64 {
    // Sessions report what they did a second later.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let query = "SELECT xact_commit FROM pg_stat_database WHERE datname = 'dotmac'";
    bed.server.query(query).await.parse().unwrap()
}

/// Deliveries in a second of a backlog to [`ENDPOINTS`], and transactions for each.
async fn deliveries(bed: &Bed, endpoints: &[String]) -> (f64, f64) {
    for id in endpoints {
        bed.post(&format!("/webhooks/{id}/pause"), json!({})).await;
    }
    for _ in 0..EVENTS / 10 {
        join_all((0..10).map(|_| bed.event("custom.order.paid.v1"))).await;
    }
    let before = transactions(bed).await;
    bed.receiver.take();
    for id in endpoints {
        bed.post(&format!("/webhooks/{id}/resume"), json!({})).await;
    }
    let all = EVENTS * endpoints.len();
    bed.receiver.until(all).await;
    let arrived = bed.receiver.take();
    // The first tenth goes while endpoints are resumed.
    let (first, last) = (arrived[all / 10].1, arrived[arrived.len() - 1].1);
    let rate = (all - all / 10) as f64 / (last - first).as_secs_f64();
    (rate, (transactions(bed).await - before) / all as f64)
}

/// The same bodies by a loop of reqwest, as many at once.
async fn bare(bed: &Bed) -> f64 {
    let all = EVENTS * ENDPOINTS;
    let body = "x".repeat(400);
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let loops = (0..5 * ENDPOINTS).map(|number| {
        let (client, body, next) = (bed.client.clone(), body.clone(), Arc::clone(&next));
        let url = format!("http://127.0.0.1:{}/{}", bed.port, number % ENDPOINTS);
        tokio::spawn(async move {
            while next.fetch_add(1, SeqCst) < all {
                client.post(&url).body(body.clone()).send().await.unwrap();
            }
        })
    });
    join_all(loops).await;
    all as f64 / began.elapsed().as_secs_f64()
}

/// From an event to its arrival, of all endpoints but the first.
async fn delays(bed: &Bed) -> Vec<Duration> {
    bed.receiver.take();
    let mut emitted = HashMap::new();
    let mut tick = tokio::time::interval(Duration::from_millis(1000 / PER_SECOND));
    for number in 0..(PER_SECOND * SECONDS) as usize {
        tick.tick().await;
        let at = Instant::now();
        let id = bed
            .event(&format!("custom.e{}.paid.v1", number % MANY))
            .await;
        if number % MANY != 0 {
            emitted.insert(id, at);
        }
    }
    support::eventually("all but the first endpoint to be served", || async {
        let arrived = bed.receiver.arrived.lock().unwrap();
        let served = arrived.iter().filter(|(id, _)| emitted.contains_key(id));
        (served.count() >= emitted.len()).then_some(())
    })
    .await;
    let arrived = bed.receiver.take();
    let delays = arrived
        .iter()
        .filter_map(|(id, at)| Some(*at - *emitted.get(id)?));
    delays.collect()
}

pub async fn measure(report: &mut Report) {
    let bed = Bed::open().await;
    let mut endpoints = Vec::new();
    for number in 0..ENDPOINTS {
        endpoints.push(bed.endpoint(number, "custom.order.*").await);
    }
    for (takes, what) in [
        (
            Duration::ZERO,
            "webhooks delivered to a local receiver, 60 at once, PostgreSQL",
        ),
        (
            AT_WORK,
            "webhooks delivered to a local receiver that answers after 10 ms, 60 at once, PostgreSQL",
        ),
    ] {
        let millis = takes.as_millis().try_into().unwrap();
        bed.receiver.takes.store(millis, SeqCst);
        let (mut ours, mut theirs, mut each) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (rate, transactions) = deliveries(&bed, &endpoints).await;
            ours.push(rate);
            each.push(transactions);
            theirs.push(bare(&bed).await);
        }
        let each = median(&mut each);
        let (ours, theirs) = (median(&mut ours), median(&mut theirs));
        report.row(
            what,
            "at least 0.6 of a bare reqwest loop",
            format!(
                "{:.2} of it ({ours:.0}/s, {each:.3} transactions each)",
                ours / theirs
            ),
            format!("bare reqwest loop, 60 at once: {theirs:.0}/s"),
            ours >= 0.6 * theirs,
        );
    }
    drop(bed);

    let bed = Bed::open().await;
    for number in 0..MANY {
        bed.endpoint(number, &format!("custom.e{number}.*")).await;
    }
    delays(&bed).await; // connections are opened, plans are made
    let (mut well, mut others) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bed.receiver.hangs.store(false, SeqCst);
        well.extend(delays(&bed).await);
        bed.receiver.hangs.store(true, SeqCst);
        others.extend(delays(&bed).await);
    }
    let [well, others] = [&mut well, &mut others].map(|times| percentile(times, 0.99));
    let ratio = others.as_secs_f64() / well.as_secs_f64();
    report.row(
        "p99 from an event to its delivery with 1 of 100 endpoints hanging, the other 99",
        "at most 1.1 x the same with none",
        format!("{} ({ratio:.2} x)", ms(others)),
        format!("none hanging: {}", ms(well)),
        ratio <= 1.1,
    );
}
