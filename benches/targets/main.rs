//! What `docs/benchmarks.md` shows: each promise measured against its baseline in the same run.
//!
//! `make bench` runs it and writes that file. Rounds of the daemon and of its baseline alternate, and
//! medians are compared, since machines are noisy. Nothing here fails for being slow: a verdict is for
//! people to read. `DOTMAC_BENCH_RESTARTS` sets the number of rolling restarts (100).
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
mod memory;
mod overhead;
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
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut report = Report::default();
    // `cargo bench -- overhead` measures that alone, and leaves the document as it is.
    if std::env::args().any(|argument| argument == "overhead") {
        return runtime.block_on(overhead::measure(&mut report));
    }
    runtime.block_on(async {
        start::measure(&mut report).await;
        memory::measure(&mut report).await;
        throughput::measure(&mut report).await;
        overhead::measure(&mut report).await;
        restarts::measure(&mut report).await;
    });
    actors::measure(&mut report);
    report.write();
}
