//! Starts real servers and daemons for tests: each with its own directory and ports, gone when the value that
//! stands for it is dropped. Programs are found below `target/tools/bin`, where `tests/setup` puts them, or on `PATH`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking"
)]

pub mod browser;
pub mod clamd;
pub mod collector;
pub mod daemon;
pub mod dns;
pub mod fakes;
pub mod leaks;
pub mod moto;
pub mod nats;
pub mod openbao;
pub mod postfix;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod push;
pub mod redis;
pub mod relay;
pub mod seaweed;
pub mod small_disk;
pub mod smtp;
pub mod sqlite;
pub mod timeline;
pub mod tls;

pub use browser::Browser;
pub use clamd::Clamd;
pub use daemon::Daemon;
pub use moto::Moto;
pub use nats::Nats;
pub use openbao::OpenBao;
pub use postgres::Postgres;
pub use redis::Redis;
pub use seaweed::Seaweed;
pub use smtp::Smtp;

use std::{
    fmt, fs,
    future::Future,
    net::TcpListener,
    ops::Range,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Longer than anything should take on a loaded machine; reached only by a test that fails.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// The repository that this crate is a part of.
pub fn repository() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// A program that `tests/setup` installed, or one on `PATH`.
pub fn tool(name: &str) -> PathBuf {
    let installed = repository().join("target/tools/bin").join(name);
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(installed)
        .chain(std::env::split_paths(&path).map(|directory| directory.join(name)))
        .find_map(|program| program.canonicalize().ok())
        .unwrap_or_else(|| panic!("`{name}` is missing: run tests/setup"))
}

/// A program that cargo built next to the running test: `dotmac`, `examples/greeter`.
pub fn built(name: &str) -> PathBuf {
    profile_directory().join(name)
}

/// `target/debug` or its like, from the test's own place in `target/debug/deps`.
fn profile_directory() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let place = test.parent().unwrap();
    let is_deps = place.ends_with("deps");
    if is_deps {
        place.parent().unwrap()
    } else {
        place
    }
    .to_owned()
}

/// A directory for what tests keep between their runs.
fn kept_directory() -> PathBuf {
    let directory = profile_directory().with_file_name("tmp");
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// All files of the repository with the extension, below the directories.
pub fn files(directories: &[&str], extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left: Vec<PathBuf> = directories
        .iter()
        .map(|name| repository().join(name))
        .collect();
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|it| it == extension) {
                found.push(path);
            }
        }
    }
    found
}

/// A free port of the loopback interface, and the one after it, which some servers take too.
/// Below those that the system hands out: one of these could be gone by the time a server wants it.
pub fn free_port() -> u16 {
    const RANGE: Range<u32> = 12_000..32_000;
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let places = (RANGE.end - RANGE.start) / 2;
    loop {
        // Concurrent programs begin in different places.
        let place = std::process::id()
            .wrapping_mul(101)
            .wrapping_add(ASKED.fetch_add(1, Relaxed));
        let port = (RANGE.start + place % places * 2) as u16;
        let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free(port) && is_free(port + 1) {
            return port;
        }
    }
}

/// Asks again and again until there is an answer; fails the test after [`PATIENCE`], and shows `what` as it is then.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: impl fmt::Display,
    mut ask: impl FnMut() -> F,
) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
