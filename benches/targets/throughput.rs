//! Probes under load, against a bare handler that answers with the same body.

use std::{process::Command, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

use crate::{
    process::Measured,
    report::{Report, median, percentile, us},
    support::{Postgres, tool},
};

const ROUNDS: usize = 5;

pub async fn measure(report: &mut Report) {
    let directory = tempfile::tempdir().unwrap();
    let postgres = Postgres::start().await;
    let daemon = Measured::daemon(directory.path(), &[("DOTMAC_DATABASE_URL", postgres.url())]);
    daemon.until("/ready");
    compare(
        report,
        &daemon,
        "/health",
        "throughput of /health, all middleware",
    );
    compare(
        report,
        &daemon,
        "/ready",
        "throughput of /ready, all middleware",
    );
    latency(report, &daemon).await;
    postgres.freeze();
    tokio::time::sleep(Duration::from_secs(3)).await;
    compare(
        report,
        &daemon,
        "/ready",
        "throughput of /ready while PostgreSQL is frozen",
    );
    postgres.thaw();
}

fn compare(report: &mut Report, daemon: &Measured, path: &str, what: &'static str) {
    let bare = Measured::bare(&daemon.get(path).unwrap().1);
    bare.until("/");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        theirs.push(wrk(bare.port, path));
        ours.push(wrk(daemon.port, path));
    }
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    let measured = format!("{:.2} of it ({ours:.0}/s)", ours / theirs);
    report.row(
        what,
        "at least 0.9 of a bare handler",
        measured,
        format!("bare handler, same body: {theirs:.0}/s"),
        ours / theirs >= 0.9,
    );
}

/// 64 connections, each asking every 20 ms: 3,200 requests a second, far below saturation.
pub const CONNECTIONS: usize = 64;
const PACE: Duration = Duration::from_millis(20);
const ASKED: usize = 150;

async fn latency(report: &mut Report, daemon: &Measured) {
    let bare = Measured::bare(&daemon.get("/health").unwrap().1);
    bare.until("/");
    let theirs = p99(bare.port).await;
    let ours = p99(daemon.port).await;
    report.row(
        "p99 of /health, 64 connections below saturation",
        "under 1 ms",
        us(ours),
        format!("bare handler: {}", us(theirs)),
        ours < Duration::from_millis(1),
    );
}

/// Of `/health`, by [`CONNECTIONS`] connections that ask at a pace.
pub async fn p99(port: u16) -> Duration {
    let clients = (0..CONNECTIONS).map(|n| {
        tokio::spawn(ask_at_a_pace(
            port,
            PACE.mul_f64(n as f64 / CONNECTIONS as f64),
        ))
    });
    let mut times = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        times.extend(client.await.unwrap());
    }
    percentile(&mut times, 0.99)
}

async fn ask_at_a_pace(port: u16, offset: Duration) -> Vec<Duration> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut beat = tokio::time::interval_at(Instant::now() + offset, PACE);
    let (mut times, mut answer) = (Vec::with_capacity(ASKED), [0; 2048]);
    for _ in 0..ASKED {
        beat.tick().await;
        let asked = Instant::now();
        stream
            .write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        // The answer is shorter than a packet, so it comes in one piece.
        assert!(stream.read(&mut answer).await.unwrap() > 0);
        times.push(asked.elapsed());
    }
    times
}

/// How long one measurement of a rate lasts.
pub const LASTS: Duration = Duration::from_secs(3);

/// Requests per second.
fn wrk(port: u16, path: &str) -> f64 {
    requests_a_second(Command::new(tool("wrk")), CONNECTIONS, port, path)
}

/// Requests per second of clients that have one core to themselves.
pub fn wrk_on(core: usize, connections: usize, port: u16, path: &str) -> f64 {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(core.to_string()).arg(tool("wrk"));
    requests_a_second(command, connections, port, path)
}

/// Requests per second by a command that runs `wrk`.
pub fn requests_a_second(mut wrk: Command, connections: usize, port: u16, path: &str) -> f64 {
    let url = format!("http://127.0.0.1:{port}{path}");
    let (connections, lasts) = (
        format!("-c{connections}"),
        format!("-d{}s", LASTS.as_secs()),
    );
    let output = wrk
        .args(["-t1", &connections, &lasts, &url])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("Requests/sec:"));
    found
        .unwrap_or_else(|| panic!("{text}"))
        .trim()
        .parse()
        .unwrap()
}
