//! Writes `docs/benchmarks.md`: each target measured against its baseline in the same run.
//!
//! `make bench` runs it and writes that file. Rounds of the daemon and of its baseline alternate, and
//! medians are compared, since machines are noisy. Nothing here fails for being slow: a verdict is for
//! people to read. `DOTMAC_BENCH_RESTARTS` sets the number of rolling restarts (100),
//! `DOTMAC_BENCH_FAULTS` that of random faults (300). `cargo bench -- faults` measures that part alone
//! and replaces its rows; so do the names of the other modules. Each row names the commit that it was measured at.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a measurement that cannot be taken ends the program"
)]
#![expect(unreachable_pub, reason = "modules of one program")]

use dotmac_testkit as support;

mod accounts;
mod actors;
mod bare;
mod caller;
mod compression;
mod database;
mod durable;
mod faults;
mod files;
mod jobs;
mod mails;
mod management;
mod memory;
mod modules;
mod overhead;
mod process;
mod report;
mod restarts;
mod secrets;
mod start;
mod subject;
mod throughput;
mod webhooks;

use std::process::ExitCode;

use report::Report;

/// The daemon's, for the baselines too.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    if let Some(port) = bare::asked_for() {
        bare::serve(port);
        return ExitCode::SUCCESS;
    }
    if faults::program::asked_for() {
        return faults::program::serve();
    }
    if modules::asked_for() {
        return modules::serve();
    }
    if management::asked_for() {
        return management::serve();
    }
    if let Some(port) = management::crowd_asked_for() {
        management::crowd(port);
        return ExitCode::SUCCESS;
    }
    if mails::asked_for() {
        return mails::serve();
    }
    if webhooks::asked_for() {
        return webhooks::serve();
    }
    if accounts::asked_for() {
        return accounts::serve();
    }
    if files::asked_for() {
        return files::serve();
    }
    // As a program has one: without any, tracing makes text of every span for the crate `log`.
    let none = tracing::subscriber::NoSubscriber::default();
    tracing::subscriber::set_global_default(none).unwrap();
    // `cargo bench` adds options of its own; names are ours.
    let named: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let wanted = |name: &str| named.is_empty() || named.iter().any(|it| it == name);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut report = Report::default();
    runtime.block_on(async {
        if wanted("start") {
            start::measure(&mut report).await;
        }
        if wanted("memory") {
            memory::measure(&mut report).await;
        }
        if wanted("modules") {
            modules::measure(&mut report).await;
        }
        if wanted("throughput") {
            throughput::measure(&mut report).await;
        }
        if wanted("compression") {
            compression::measure(&mut report).await;
        }
        if wanted("overhead") {
            overhead::measure(&mut report).await;
        }
        if wanted("restarts") {
            restarts::measure(&mut report).await;
        }
        if wanted("faults") {
            faults::measure(&mut report).await;
        }
        if wanted("secrets") {
            secrets::measure(&mut report).await;
        }
        if wanted("webhooks") {
            webhooks::measure(&mut report).await;
        }
        if wanted("accounts") {
            accounts::measure(&mut report).await;
        }
        if wanted("mails") {
            mails::measure(&mut report).await;
        }
        if wanted("files") {
            files::measure(&mut report).await;
        }
    });
    if wanted("management") {
        management::measure(&mut report);
    }
    if wanted("actors") {
        actors::measure(&mut report);
    }
    if wanted("database") {
        database::measure(&mut report);
    }
    if wanted("durable") {
        durable::measure(&mut report);
    }
    if wanted("jobs") {
        jobs::measure(&mut report);
    }
    // A build without optimisations has no targets.
    if !cfg!(debug_assertions) {
        report.write(named.is_empty());
    }
    ExitCode::SUCCESS
}
