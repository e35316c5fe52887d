//! Telemetry as a whole: what a program that uses it sees on its output, on `/metrics` and at its
//! collector.
#![expect(
    clippy::disallowed_methods,
    reason = "these tests run on their own threads, without a runtime"
)]

mod collector;
mod export;
mod output;

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use dotmac_testkit::PATIENCE;
use tracing::Dispatch;

use super::{Config, Telemetry, log::Output, pipeline};

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Outcome<T = ()> = Result<T, Failure>;

/// Telemetry of a test's own, whose log lines end in a file.
struct Rig {
    telemetry: Telemetry,
    dispatch: Dispatch,
    output: File,
}

impl Rig {
    fn new(config: &Config) -> Outcome<Self> {
        let output = nameless_file()?;
        let (telemetry, dispatch) =
            pipeline::assemble(config, Output::to(Some(output.try_clone()?)))?;
        Ok(Self {
            telemetry,
            dispatch,
            output,
        })
    }

    /// Runs code whose spans and events go to this telemetry.
    fn run<T>(&self, code: impl FnOnce() -> T) -> T {
        tracing::dispatcher::with_default(&self.dispatch, code)
    }

    /// All lines so far.
    fn lines(&mut self) -> Outcome<Vec<String>> {
        let mut text = String::new();
        self.output.seek(SeekFrom::Start(0))?;
        self.output.read_to_string(&mut text)?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// All lines so far as JSON.
    fn json(&mut self) -> Outcome<Vec<serde_json::Value>> {
        self.lines()?
            .iter()
            .map(|line| Ok(serde_json::from_str(line)?))
            .collect()
    }
}

fn nameless_file() -> io::Result<File> {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "dotmac-telemetry-{}-{}",
        std::process::id(),
        SERIAL.fetch_add(1, Ordering::Relaxed)
    );
    let path = std::env::temp_dir().join(name);
    let file = File::options()
        .read(true)
        .append(true)
        .create_new(true)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Waits until something holds, at most [`PATIENCE`].
fn until(what: &str, mut holds: impl FnMut() -> bool) -> Outcome {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > deadline {
            return Err(format!("waited {PATIENCE:?} for: {what}").into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
