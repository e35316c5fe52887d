//! What a hostile client, a rude dependency and a careless operator do, and what it may cost.
//!
//! `cargo test` runs the short form; `make attack` the long one, with `DOTMAC_ATTACK_SCALE` times as much of everything.
//! Memory and descriptors are those of the daemon's process as the kernel counts them.

mod database;
mod files;
mod stopping;

use std::fs;

/// How many times as much as in the short form, at least 1: `DOTMAC_ATTACK_SCALE`.
#[expect(dead_code, reason = "the first attack to come uses it")]
pub fn scale() -> usize {
    std::env::var("DOTMAC_ATTACK_SCALE").map_or(1, |scale| scale.parse().unwrap())
}

/// Resident memory of a process, in MiB.
#[expect(dead_code, reason = "the first attack to come uses it")]
pub fn resident_mib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:"));
    let kib = line.unwrap().split_whitespace().next().unwrap();
    kib.parse::<u64>().unwrap() / 1024
}

/// Open file descriptors of a process.
#[expect(dead_code, reason = "the first attack to come uses it")]
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}
