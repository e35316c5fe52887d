//! What `docs/benchmarks.md` shows: each promise measured against its baseline in the same run.
//!
//! `make bench` runs it and writes that file. Rounds of the daemon and of its baseline alternate, and
//! medians are compared, since machines are noisy. Nothing here fails for being slow: a verdict is for
//! people to read. `DOTMAC_BENCH_RESTARTS` sets the number of rolling restarts (100); `DOTMAC_BENCH_ONLY=database`
//! measures the database alone, and writes nothing.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a measurement that cannot be taken ends the program"
)]
#![expect(unreachable_pub, reason = "modules of one program")]

#[path = "../../tests/support/mod.rs"]
mod support;

mod actors;
mod bare;
mod database;
mod memory;
mod process;
mod report;
mod restarts;
mod start;
mod throughput;

use report::Report;

fn main() {
    if let Some(port) = bare::asked_for() {
        return bare::serve(port);
    }
    let mut report = Report::default();
    if std::env::var("DOTMAC_BENCH_ONLY").is_ok_and(|only| only == "database") {
        return database::measure(&mut report);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        start::measure(&mut report).await;
        memory::measure(&mut report).await;
        throughput::measure(&mut report).await;
        restarts::measure(&mut report).await;
    });
    actors::measure(&mut report);
    database::measure(&mut report);
    report.write();
}
