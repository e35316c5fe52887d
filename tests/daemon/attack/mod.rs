//! What a hostile client, a rude dependency and a careless operator do, and what it may cost.
//!
//! `cargo test` runs the short form; `make attack` the long one, with `DOTMAC_ATTACK_SCALE` times as much of everything.
//! Memory and descriptors are those of the daemon's process as the kernel counts them.

mod bodies;
mod compression;
mod connections;
mod database;
mod egress;
mod files;
mod handshakes;
mod outages;
mod requests;
mod settings;
mod stopping;
mod vault;

use std::fs;

use crate::support::{Daemon, eventually};

/// How many times as much as in the short form, at least 1: `DOTMAC_ATTACK_SCALE`.
pub fn scale() -> usize {
    std::env::var("DOTMAC_ATTACK_SCALE").map_or(1, |scale| scale.parse().unwrap())
}

/// Resident memory of a process, in MiB.
pub fn resident_mib(pid: u32) -> u64 {
    status(pid, "VmRSS:") / 1024
}

/// The most resident memory that a process has ever had, in MiB.
pub fn peak_mib(pid: u32) -> u64 {
    status(pid, "VmHWM:") / 1024
}

/// The threads of a process.
pub fn threads(pid: u32) -> u64 {
    status(pid, "Threads:")
}

/// A number out of the kernel's status of a process; memory is in KiB.
fn status(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = status.lines().find_map(|it| it.strip_prefix(field));
    let number = value.unwrap().split_whitespace().next().unwrap();
    number.parse().unwrap()
}

/// Open file descriptors of a process.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Waits until so many connections of the daemon were ended by a limit.
pub async fn until_cut(daemon: &Daemon, limit: &str, count: usize) {
    let series = format!("dotmac_http_connections_cut_total{{limit=\"{limit}\"}}");
    eventually(&format!("{count} of {series}"), || async {
        let cut = daemon.metric(&series).await.unwrap();
        (cut >= count as f64).then_some(())
    })
    .await;
}
