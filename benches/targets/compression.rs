//! The cost of compressed answers: memory while clients do not read them, requests a second, and time on
//! a connection that is kept. The baseline is the same answer as it is.

use std::{process::Command, time::Duration};

use futures_util::future::join_all;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::{
    process::Measured,
    report::{Report, median, percentile, us},
    support::tool,
    throughput::{CONNECTIONS, requests_a_second},
};

/// `Accept-Encoding` of browsers, and of Prometheus.
const BROWSER: &str = "gzip, deflate, br, zstd";
const SCRAPER: &str = "gzip";
const PLAIN: &str = "identity";

const SCRIPT: &str = "/docs/swagger-ui-bundle.js";

pub async fn measure(report: &mut Report) {
    for (what, clients, path) in [
        (
            "memory for 200 compressed answers of /metrics under way",
            200,
            "/metrics",
        ),
        (
            "memory for 800 compressed answers of /metrics under way",
            800,
            "/metrics",
        ),
        (
            "memory for 500 clients that pipeline a script of 1.5 MB and read nothing",
            500,
            SCRIPT,
        ),
    ] {
        memory(report, what, clients, path).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let daemon = Measured::daemon(directory.path(), &[]);
    daemon.until("/ready");
    for (what, path, accepted, least) in [
        (
            "throughput of /metrics, compressed for Prometheus",
            "/metrics",
            SCRAPER,
            0.5,
        ),
        (
            "throughput of /openapi.json, compressed for a browser",
            "/openapi.json",
            BROWSER,
            0.9,
        ),
    ] {
        rate(report, &daemon, what, path, accepted, least);
    }
    for (what, path, accepted) in [
        (
            "p99 of /metrics, compressed, on a kept connection",
            "/metrics",
            SCRAPER,
        ),
        (
            "p99 of /openapi.json, compressed, on a kept connection",
            "/openapi.json",
            BROWSER,
        ),
    ] {
        let plain = p99(daemon.port, path, PLAIN).await;
        let compressed = p99(daemon.port, path, accepted).await;
        report.row(
            what,
            "under 5 ms",
            us(compressed),
            format!("uncompressed: {}", us(plain)),
            compressed < Duration::from_millis(5),
        );
    }
}

async fn memory(report: &mut Report, what: &'static str, clients: usize, path: &str) {
    let plain = grown(clients, path, PLAIN).await;
    let compressed = grown(clients, path, BROWSER).await;
    report.row(
        what,
        "at most 32 MiB more than uncompressed",
        format!("{compressed:.1} MiB"),
        format!("uncompressed: {plain:.1} MiB"),
        compressed < plain + 32.0,
    );
}

/// By how many MiB a daemon has grown at most, while each client asked four times and read nothing.
async fn grown(clients: usize, path: &str, accepted: &str) -> f64 {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Measured::daemon(directory.path(), &[]);
    daemon.until("/ready");
    let before = daemon.memory();
    let requests = request(path, accepted).repeat(4);
    let asks = (0..clients).map(|_| async {
        let mut stream = TcpStream::connect(("127.0.0.1", daemon.port))
            .await
            .unwrap();
        stream.write_all(requests.as_bytes()).await.unwrap();
        stream.readable().await.unwrap();
        stream
    });
    let streams = join_all(asks).await;
    // The rest of the answers, until nothing more fits between the two.
    sleep(Duration::from_secs(1)).await;
    let grown = daemon.peak_memory() - before;
    drop(streams);
    grown
}

fn rate(
    report: &mut Report,
    daemon: &Measured,
    what: &'static str,
    path: &str,
    accepted: &str,
    least: f64,
) {
    let rate = |accepted: &str| {
        let mut wrk = Command::new(tool("wrk"));
        wrk.arg("-H").arg(format!("accept-encoding: {accepted}"));
        requests_a_second(wrk, CONNECTIONS, daemon.port, path)
    };
    let (mut plain, mut compressed) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        plain.push(rate(PLAIN));
        compressed.push(rate(accepted));
    }
    let (plain, compressed) = (median(&mut plain), median(&mut compressed));
    report.row(
        what,
        if least == 0.5 {
            "at least 0.5 of uncompressed"
        } else {
            "at least 0.9 of uncompressed"
        },
        format!("{:.2} of it ({compressed:.0}/s)", compressed / plain),
        format!("uncompressed: {plain:.0}/s"),
        compressed / plain >= least,
    );
}

/// One answer after another, each read to its end.
async fn p99(port: u16, path: &str, accepted: &str) -> Duration {
    const ASKED: usize = 500;
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut stream = BufReader::new(stream);
    let request = request(path, accepted);
    let mut times = Vec::with_capacity(ASKED);
    for _ in 0..ASKED {
        let asked = Instant::now();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut body = vec![0; content_length(&mut stream).await];
        stream.read_exact(&mut body).await.unwrap();
        times.push(asked.elapsed());
    }
    percentile(&mut times, 0.99)
}

/// Reads the head of an answer.
async fn content_length(stream: &mut BufReader<TcpStream>) -> usize {
    let mut length = None;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.trim().parse().ok();
        }
        if line == "\r\n" {
            return length.unwrap();
        }
    }
}

fn request(path: &str, accepted: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\naccept-encoding: {accepted}\r\n\r\n")
}
