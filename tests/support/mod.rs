//! The only way in which tests start the daemon and the servers that it talks to: real ones, each with
//! its own directory and ports, gone when the value that stands for it is dropped. Each test program uses
//! what it needs of it.
#![allow(
    dead_code,
    unused_imports,
    reason = "shared by programs that each use a part of it"
)]

pub mod collector;
pub mod daemon;
pub mod fakes;
pub mod leaks;
pub mod openbao;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod small_disk;
pub mod sqlite;
pub mod tls;

pub use daemon::Daemon;
pub use openbao::OpenBao;
pub use postgres::Postgres;

use std::{
    fs,
    future::Future,
    net::TcpListener,
    ops::Range,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Longer than anything should take on a loaded machine; reached only by a test that fails.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// A program that `tests/setup` installed.
pub fn tool(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("target/tools/bin")
        .join(name);
    path.canonicalize()
        .unwrap_or_else(|_| panic!("{} is missing: run tests/setup", path.display()))
}

/// All files of the repository with the extension, below the directories.
pub fn files(directories: &[&str], extension: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut left: Vec<PathBuf> = directories.iter().map(|name| root.join(name)).collect();
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

/// A port of the loopback interface that nobody uses, and the one after it, which some servers take too.
/// Below those that the system hands out: one of these could be gone by the time a server wants it.
pub fn free_port() -> u16 {
    const RANGE: Range<u32> = 12_000..32_000;
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let places = (RANGE.end - RANGE.start) / 2;
    loop {
        // Programs that run beside each other begin in different places.
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

/// Asks again and again until there is an answer; fails the test after [`PATIENCE`].
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
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
