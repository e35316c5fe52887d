//! Figures of the process itself under the names every Prometheus dashboard knows, read from
//! `/proc` when asked.
//!
//! Source of the names: the Prometheus client library guidelines, "Process metrics". Absent where
//! there is no `/proc`.

use std::{
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use opentelemetry::metrics::Meter;

/// Ticks per second in `/proc/PID/stat`: part of Linux' interface to programs and 100 on every architecture Rust's
/// standard library supports, independent of the kernel's own tick. Source: proc(5), `USER_HZ`.
const TICKS_PER_SECOND: f64 = 100.0;

/// One reading serves all instruments of a collection.
const FRESH: Duration = Duration::from_millis(250);

/// One reading of `/proc`. A figure that could not be read is `None` and simply not reported.
#[derive(Clone, Debug, Default)]
struct Reading {
    cpu_seconds: Option<f64>,
    start_seconds: Option<f64>,
    resident_bytes: Option<u64>,
    virtual_bytes: Option<u64>,
    threads: Option<u64>,
    open_fds: Option<u64>,
    max_fds: Option<u64>,
}

/// The last reading and when it was taken.
type Shared = Arc<Mutex<Option<(Instant, Reading)>>>;

/// Registers the instruments on `meter`.
pub(crate) fn observe(meter: &Meter) {
    if !cfg!(target_os = "linux") {
        return;
    }
    let shared = Shared::default();
    let read = |figure: fn(&Reading) -> Option<f64>| {
        let shared = Arc::clone(&shared);
        move || figure(&latest(&shared))
    };
    let cpu = read(|reading| reading.cpu_seconds);
    meter
        .f64_observable_counter("process.cpu")
        .with_unit("s")
        .with_description("Total user and system CPU time spent in seconds.")
        .with_callback(move |observer| {
            if let Some(seconds) = cpu() {
                observer.observe(seconds, &[]);
            }
        })
        .build();
    let gauge = |name, unit, description, figure: fn(&Reading) -> Option<f64>| {
        let figure = read(figure);
        meter
            .f64_observable_gauge(name)
            .with_unit(unit)
            .with_description(description)
            .with_callback(move |observer| {
                if let Some(value) = figure() {
                    observer.observe(value, &[]);
                }
            })
            .build();
    };
    gauge(
        "process.start_time",
        "s",
        "Start time of the process since unix epoch in seconds.",
        |r| r.start_seconds,
    );
    gauge(
        "process.resident_memory",
        "By",
        "Resident memory size in bytes.",
        |r| r.resident_bytes.map(|n| n as f64),
    );
    gauge(
        "process.virtual_memory",
        "By",
        "Virtual memory size in bytes.",
        |r| r.virtual_bytes.map(|n| n as f64),
    );
    gauge(
        "process.threads",
        "",
        "Number of OS threads in the process.",
        |r| r.threads.map(|n| n as f64),
    );
    gauge(
        "process.open_fds",
        "",
        "Number of open file descriptors.",
        |r| r.open_fds.map(|n| n as f64),
    );
    gauge(
        "process.max_fds",
        "",
        "Maximum number of open file descriptors.",
        |r| r.max_fds.map(|n| n as f64),
    );
}

fn latest(shared: &Shared) -> Reading {
    let mut last = shared.lock().unwrap_or_else(PoisonError::into_inner);
    match &*last {
        Some((at, reading)) if at.elapsed() < FRESH => reading.clone(),
        _ => last.insert((Instant::now(), Reading::take())).1.clone(),
    }
}

impl Reading {
    fn take() -> Self {
        let file = |path| fs::read_to_string(path).unwrap_or_default();
        let stat = file("/proc/self/stat");
        // The program's name stands in brackets and may hold anything, so count from the last
        // bracket: what follows is field 3.
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
        let status = file("/proc/self/status");
        let kilobytes = |key| Some(word(&status, key)?.parse::<u64>().ok()? * 1024);
        let boot =
            word(&file("/proc/stat"), "btime").and_then(|seconds| seconds.parse::<f64>().ok());
        Self {
            cpu_seconds: ticks(14)
                .zip(ticks(15))
                .map(|(user, system)| (user + system) / TICKS_PER_SECOND),
            start_seconds: boot
                .zip(ticks(22))
                .map(|(boot, since)| boot + since / TICKS_PER_SECOND),
            resident_bytes: kilobytes("VmRSS:"),
            virtual_bytes: kilobytes("VmSize:"),
            threads: word(&status, "Threads:").and_then(|count| count.parse().ok()),
            // Without the descriptor that the reading itself opens.
            open_fds: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|list| (list.count() as u64).saturating_sub(1)),
            max_fds: word(&file("/proc/self/limits"), "Max open files")
                .and_then(|count| count.parse().ok()),
        }
    }
}

/// The word after `key` at the beginning of a line.
fn word<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(key))?
        .split_whitespace()
        .next()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn every_figure_is_read_and_plausible() {
        let reading = Reading::take();
        assert!(
            reading.cpu_seconds.is_some_and(|seconds| seconds < 1e6),
            "{reading:?}"
        );
        assert!(
            reading.resident_bytes.is_some_and(|bytes| bytes > 1 << 20),
            "{reading:?}"
        );
        assert!(
            reading.virtual_bytes >= reading.resident_bytes,
            "{reading:?}"
        );
        assert!(
            reading.threads.is_some_and(|count| count >= 1),
            "{reading:?}"
        );
        assert!(
            reading.open_fds.is_some_and(|count| count >= 3),
            "{reading:?}"
        );
        assert!(reading.max_fds >= reading.open_fds, "{reading:?}");
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64();
        assert!(
            reading
                .start_seconds
                .is_some_and(|at| at <= now + 1.0 && at > now - 86_400.0),
            "{reading:?}"
        );
    }
}
