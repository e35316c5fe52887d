//! Rotates the database's user again and again under load, and looks whether anybody noticed.
//!
//! `make rotations` does it 1,000 times, `cargo test` a few: the same program, with a number as its
//! argument. Real OpenBao, real PostgreSQL, the real daemon (the example `chaos`, which has a route that
//! queries), leases of 2 s that cannot be renewed. It fails unless no request failed, each lease but
//! the last was revoked by the daemon, and memory, connections, threads and descriptors are as they were.
#![expect(
    clippy::unwrap_used,
    reason = "a proof that cannot be had ends the program"
)]
use dotmac_testkit as support;

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use support::{Daemon, OpenBao, Postgres, daemon::Stopped, eventually};

/// Default number of rotations.
const FEW: u64 = 12;

/// Clients that query all the time, more than there are connections.
const CLIENTS: usize = 8;

/// Growth that is still none: allocators and connection set-up breathe.
const MEMORY_SLACK: f64 = 6.0 * 1024.0 * 1024.0;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let count = match arguments.as_slice() {
        [] => FEW,
        [count] if count.parse::<u64>().is_ok() => count.parse().unwrap(),
        // A filter of tests by name is set, and this one has none.
        _ => return ExitCode::SUCCESS,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let faults = runtime.block_on(rotate(count));
    for fault in &faults {
        eprintln!("FAILED: {fault}");
    }
    if faults.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The figures that must not grow.
#[derive(Clone, Copy, Debug)]
struct Footprint {
    memory: f64,
    threads: f64,
    descriptors: f64,
    connections: f64,
}

/// Requests so far, and the first that failed.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    answered: AtomicU64,
    failed: AtomicU64,
    first_failure: std::sync::Mutex<Option<String>>,
}

async fn rotate(count: u64) -> Vec<String> {
    let (bao, postgres) = tokio::join!(OpenBao::start(), Postgres::start());
    let settings = bao.set_up(&postgres, &[("TTL", "2s"), ("MAX_TTL", "2s")]);
    let mut builder = Daemon::example("chaos")
        .env("DOTMAC_DATABASE_POOL_SIZE", 6)
        .env("DOTMAC_TELEMETRY_LOG_LEVEL", "info,dotmac::access=off");
    for (key, value) in &settings {
        builder = builder.env(key, value);
    }
    let daemon = builder.spawn().await;
    daemon.until("/ready", 200).await;

    let load = Arc::new(Load::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| tokio::spawn(query(client, daemon.base.clone(), Arc::clone(&load))))
        .collect();
    let begun = Instant::now();
    let warm = (count / 10).max(3);
    until_rotated(&daemon, warm).await;
    let before = footprint(&daemon, &postgres).await;
    until_rotated(&daemon, count).await;
    let took = begun.elapsed();
    let after = footprint(&daemon, &postgres).await;
    load.stop.store(true, Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let mut faults = Vec::new();
    let mut expect = |so: bool, fault: String| {
        if !so {
            faults.push(fault);
        }
    };

    let body = daemon.json("/ready").await.1;
    let generation = &body["components"]["db"]["generation"];
    expect(
        *generation == 1 && body["components"]["secrets"]["generation"] == 1,
        format!("an actor was restarted: {body}"),
    );
    // The last lease is in use until the stop gives it back as well.
    let stopped = daemon.stop().await;
    let (issued, revoked) = bao.leases_by_fate();
    let left: Vec<_> = issued.difference(&revoked).collect();
    let (answered, failed) = (load.answered.load(Relaxed), load.failed.load(Relaxed));
    println!(
        "{} rotations in {:.0} s, {answered} queries, {failed} failed; {} leases, {} revoked by the daemon",
        issued.len(),
        took.as_secs_f64(),
        issued.len(),
        revoked.len()
    );
    println!("after {warm}: {before:?}\nat the end: {after:?}");
    expect(stopped.code == 0, format!("exit code {}", stopped.code));
    let first = load.first_failure.lock().unwrap().clone();
    expect(
        failed == 0,
        format!("{failed} queries failed, the first: {first:?}"),
    );
    expect(left.is_empty(), format!("not revoked: {left:?}"));
    expect(
        after.memory <= before.memory + MEMORY_SLACK,
        "memory has grown".to_owned(),
    );
    expect(
        after.threads <= before.threads + 1.0,
        "threads have grown".to_owned(),
    );
    // A rotation may be under way: one connection proves the new user, six are being replaced.
    expect(
        after.descriptors <= before.descriptors + 8.0,
        "descriptors have grown".to_owned(),
    );
    expect(
        after.connections <= 2.0 * 6.0 + 3.0,
        "connections have grown".to_owned(),
    );
    if !faults.is_empty() {
        explain(&stopped);
    }
    faults
}

/// Shows the daemon's log of faults, to explain this failure.
fn explain(stopped: &Stopped) {
    let troubled = |line: &&String| {
        ["\"WARN\"", "\"ERROR\"", "ready"]
            .iter()
            .any(|sign| line.contains(sign))
    };
    for line in stopped.lines.iter().filter(troubled).take(200) {
        eprintln!("{line}");
    }
}

async fn query(client: usize, base: String, load: Arc<Load>) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let pauses = [0, 5, 20, 60];
    for turn in 0.. {
        if load.stop.load(Relaxed) {
            return;
        }
        let pause = pauses[(client + turn) % pauses.len()];
        let url = format!("{base}/chaos/transaction?ms={pause}");
        let answer = http.post(url).timeout(Duration::from_secs(20)).send().await;
        let failure = match answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(answer.text().await.unwrap_or_default()),
            Err(error) => Some(error.to_string()),
        };
        load.answered.fetch_add(1, Relaxed);
        if let Some(failure) = failure {
            load.failed.fetch_add(1, Relaxed);
            let moment = chrono::Utc::now().to_rfc3339();
            let reported = format!("{moment} {failure}");
            load.first_failure.lock().unwrap().get_or_insert(reported);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits for so many rotations; each has the patience that one would have.
async fn until_rotated(daemon: &Daemon, count: u64) {
    let series = r#"dotmac_secret_rotations_total{result="applied",secret="database"}"#;
    let mut seen = 0.0;
    while seen < count as f64 {
        seen = eventually("the next rotation", || async {
            let now = daemon.metric(series).await.unwrap_or(0.0);
            (now > seen).then_some(now)
        })
        .await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn footprint(daemon: &Daemon, postgres: &Postgres) -> Footprint {
    let of = async |series: &str| daemon.metric(series).await.unwrap();
    let connections = postgres
        .query("SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'v-%'")
        .await;
    Footprint {
        memory: of("process_resident_memory_bytes").await,
        threads: of("process_threads").await,
        descriptors: of("process_open_fds").await,
        connections: connections.parse().unwrap(),
    }
}
