//! Counts what became of the items of one signal: spans, log records or metric points.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The kinds of exported data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Metric points.
    Metrics,
    /// Log records.
    Logs,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Traces, Self::Metrics, Self::Logs];

    /// The word for labels and log fields.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }
}

/// Why an item was not exported: the label `reason` of `dotmac_telemetry_dropped_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// The collector refused it or could not be reached.
    ExportFailed,
    /// The collector did not answer in time.
    Timeout,
    /// No exporter was there to take it.
    NotAttached,
    /// It was made faster than the collector takes it.
    QueueFull,
    /// The collector took the export and said that it rejected this of it.
    Rejected,
    /// The collector asked for a pause.
    Throttled,
}

impl DropReason {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::ExportFailed,
        Self::Timeout,
        Self::NotAttached,
        Self::QueueFull,
        Self::Rejected,
        Self::Throttled,
    ];

    /// The word for labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ExportFailed => "export_failed",
            Self::Timeout => "timeout",
            Self::NotAttached => "not_attached",
            Self::QueueFull => "queue_full",
            Self::Rejected => "rejected",
            Self::Throttled => "throttled",
        }
    }
}

/// The counters of one signal. What is on the way of a span or a line takes no lock.
#[derive(Debug, Default)]
pub(super) struct SignalCounters {
    exported: AtomicU64,
    dropped: [AtomicU64; DropReason::ALL.len()],
    queued: AtomicU64,
    failures_in_row: AtomicU32,
    successes: AtomicU64,
    last_success: AtomicU64,
    last_error: Mutex<Option<Failure>>,
    /// Until when the collector wants to be left alone.
    held_until: Mutex<Option<Instant>>,
}

/// How an export failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No answer within the time-out.
    Timeout,
    /// The collector asks for a pause.
    Throttled(String),
    /// The error of the exporter.
    Export(String),
}

impl SignalCounters {
    /// Makes room for one item in a queue of `limit`, or says that there is none.
    pub(super) fn admit(&self, limit: u64) -> bool {
        let free = self.queued.fetch_add(1, Relaxed) < limit;
        if !free {
            self.queued.fetch_sub(1, Relaxed);
        }
        free
    }

    /// Takes items out of the queue, once it is known what became of them.
    pub(super) fn release(&self, items: u64) {
        self.queued.fetch_sub(items, Relaxed);
    }

    pub(super) fn succeeded(&self, items: u64) {
        self.exported.fetch_add(items, Relaxed);
        self.successes.fetch_add(1, Relaxed);
        self.failures_in_row.store(0, Relaxed);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.last_success.store(now.as_secs(), Relaxed);
    }

    pub(super) fn failed(&self, items: u64, failure: Failure) {
        let reason = match failure {
            Failure::Timeout => DropReason::Timeout,
            Failure::Throttled(_) => DropReason::Throttled,
            Failure::Export(_) => DropReason::ExportFailed,
        };
        self.dropped(items, reason);
        *lock(&self.last_error) = Some(failure);
        self.failures_in_row.fetch_add(1, Relaxed);
    }

    pub(super) fn dropped(&self, items: u64, reason: DropReason) {
        self.dropped[reason as usize].fetch_add(items, Relaxed);
    }

    pub(super) fn exported_total(&self) -> u64 {
        self.exported.load(Relaxed)
    }

    pub(super) fn dropped_total(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize].load(Relaxed)
    }

    pub(super) fn lost_total(&self) -> u64 {
        DropReason::ALL
            .iter()
            .map(|reason| self.dropped_total(*reason))
            .sum()
    }

    /// Items of which it is known what became of them.
    pub(super) fn ended_total(&self) -> u64 {
        self.exported_total() + self.lost_total()
    }

    /// Items made and neither exported nor dropped yet, those on their way included.
    pub(super) fn queued(&self) -> u64 {
        self.queued.load(Relaxed)
    }

    pub(super) fn failures_in_row(&self) -> u32 {
        self.failures_in_row.load(Relaxed)
    }

    /// Exports that went well so far, empty ones included.
    pub(super) fn successes(&self) -> u64 {
        self.successes.load(Relaxed)
    }

    /// When an export last went well, in whole seconds since 1970; 0 for never.
    pub(super) fn last_success(&self) -> u64 {
        self.last_success.load(Relaxed)
    }

    pub(super) fn last_error(&self) -> Option<Failure> {
        lock(&self.last_error).clone()
    }

    /// Asks for no export before `at`, nor before what was asked for already.
    pub(super) fn hold_until(&self, at: Instant) {
        let mut held = lock(&self.held_until);
        *held = (*held).max(Some(at));
    }

    /// How long to wait before the next export.
    pub(super) fn pause(&self) -> Duration {
        lock(&self.held_until)
            .map(|at| at.saturating_duration_since(Instant::now()))
            .unwrap_or_default()
    }
}

/// Nothing foreign runs under these locks, so a poisoned one holds a sound value.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
