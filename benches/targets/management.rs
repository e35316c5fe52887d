//! Probes on the management listener at the worst moment: every HTTP worker is blocked, and 20,000 idle clients hold the
//! other listener at its limit. The baseline is the same listener of the same process before.
//!
//! This program is the platform whose workers block, and the crowd of clients, since a process may not have enough
//! descriptors for both.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use dotmac_platform::prelude::*;

use crate::{
    process::{Measured, get},
    report::{Report, percentile, us},
    support::{PATIENCE, free_port},
};

/// Variable that turns this program into the platform.
pub const ASKED: &str = "BLOCKING_PLATFORM";
/// Variable that turns this program into clients of that port.
const CROWD: &str = "CROWD_AT_PORT";
const CROWDS: usize = 2;
const CLIENTS_OF_A_CROWD: usize = 10_000;
const WORKERS: usize = 2;
const PROBES: usize = 2_000;
const BLOCKED: Duration = Duration::from_secs(60);

pub fn asked_for() -> bool {
    std::env::var_os(ASKED).is_some()
}

pub fn serve() -> ExitCode {
    Platform::new("blocking", env!("CARGO_PKG_VERSION"))
        .module::<Blocking>()
        .main()
}

struct Blocking;

impl Module for Blocking {
    const NAME: &'static str = "blocking";
    type Settings = NoSettings;

    fn manifest() -> Manifest {
        Manifest::new("A route that blocks its worker.")
    }

    fn mount(_: NoSettings, on: &mut Mount<'_>) -> Result<(), MountError> {
        on.root_routes("/blocking", |routes| _ = routes.post("", block));
        Ok(())
    }
}

async fn block(_: Public) -> Result<Json<()>, Problem> {
    std::thread::sleep(BLOCKED);
    Ok(Json(()))
}

/// The port of the listener that this program shall hold connections to.
pub fn crowd_asked_for() -> Option<u16> {
    std::env::var(CROWD).ok()?.parse().ok()
}

/// Connects, says that it has, and holds the connections until its input ends.
pub fn crowd(port: u16) {
    let clients: Vec<_> = (0..CLIENTS_OF_A_CROWD)
        .map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap())
        .collect();
    println!("connected");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    drop(clients);
}

fn started_crowd(port: u16) -> Child {
    let mut crowd = Command::new(std::env::current_exe().unwrap())
        .env(CROWD, port.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0; "connected".len()];
    crowd
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut line)
        .unwrap();
    crowd
}

pub fn measure(report: &mut Report) {
    let directory = tempfile::tempdir().unwrap();
    let management = free_port();
    let platform = Measured::this_program(
        directory.path(),
        ASKED,
        &[
            ("DOTMAC_MANAGEMENT_PORT", management.to_string()),
            ("DOTMAC_HTTP_MAX_CONNECTIONS", "20000".to_owned()),
        ],
    );
    platform.until("/ready");
    let before = percentile(&mut probes(management), 0.99);

    // Connections go to the workers in turn. The workers are blocked first: idle clients of a full listener are closed.
    let mut blocking: Vec<_> = (0..WORKERS)
        .map(|_| TcpStream::connect(("127.0.0.1", platform.port)).unwrap())
        .collect();
    for connection in &mut blocking {
        let request = b"POST /blocking HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
        connection.write_all(request).unwrap();
    }
    blocked(management);
    let descriptors = platform.count("fd");
    let crowds: Vec<_> = (0..CROWDS).map(|_| started_crowd(platform.port)).collect();
    let held = settled(|| platform.count("fd")) - descriptors;
    assert_eq!(platform.get("/health"), None, "a worker is not blocked");
    let during = percentile(&mut probes(management), 0.99);
    assert_eq!(workers_blocked(management), WORKERS, "a worker was free");
    report.row(
        "p99 of /ready on the management listener: workers blocked, 20,000 idle clients at the other",
        "under 5 ms",
        format!("{} ({held} connections held, the limit)", us(during)),
        format!("the same listener before: {}", us(before)),
        during < Duration::from_millis(5),
    );
    for mut crowd in crowds {
        crowd.kill().ok();
        crowd.wait().ok();
    }
}

/// The times of probes, one after another, each on its own connection as an orchestrator's.
fn probes(port: u16) -> Vec<Duration> {
    (0..PROBES)
        .map(|_| {
            let asked = Instant::now();
            assert!(get(port, "/ready").is_some(), "a probe had no answer");
            asked.elapsed()
        })
        .collect()
}

/// A number once it no longer changes.
fn settled(number: impl Fn() -> usize) -> usize {
    let mut last = number();
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let now = number();
        if now == last {
            return now;
        }
        last = now;
    }
}

fn workers_blocked(management: u16) -> usize {
    let (_, metrics) = get(management, "/metrics").unwrap();
    metrics
        .lines()
        .find_map(|line| line.strip_prefix("dotmac_http_workers_blocked "))
        .map_or(0, |count| count.parse().unwrap())
}

/// Waits until every worker is seen to be blocked.
fn blocked(management: u16) {
    let asked = Instant::now();
    while workers_blocked(management) < WORKERS {
        assert!(asked.elapsed() < PATIENCE, "no block was noticed");
        std::thread::sleep(Duration::from_millis(100));
    }
}
