//! Sends the waiting items, within a fixed time limit.

use std::{
    fmt,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use tracing::warn;

use super::{
    otlp::{SenderSlot, SenderSlots},
    pipeline::Pipelines,
    tally::{Signal, SignalCounters},
};

/// The result of a [`flush`](super::Telemetry::flush).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Items of each signal that were made before the flush and did not reach the collector: refused
    /// during it, or still waiting at its end.
    pub lost: Vec<(Signal, u64)>,
    /// How long it took.
    pub took: Duration,
}

impl Flushed {
    /// Whether everything arrived, or there was nothing to send.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.lost.is_empty()
    }
}

impl fmt::Display for Flushed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (signal, items)) in self.lost.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{items} of {}", signal.as_str())?;
        }
        Ok(())
    }
}

/// One signal that is being flushed.
struct Flushing<'a> {
    signal: Signal,
    tally: &'a SignalCounters,
    lost_before: u64,
    /// How many had been made when the flush began. They leave the queue nearly in their order, so only the count
    /// distinguishes items made during the flush.
    made_before: u64,
    /// Whether the flush of this signal has come back; only metrics need it, they have no queue to
    /// look at.
    done: bool,
}

pub(super) fn flush(pipelines: &Pipelines, limit: Duration) -> Flushed {
    let begun = Instant::now();
    let deadline = begun + limit;
    let (report, reports) = mpsc::channel::<Signal>();
    let mut all = all(&pipelines.outlets);
    let mut waiting = 0;
    for flushing in &all {
        let Some(work) = work(pipelines, flushing.signal) else {
            continue;
        };
        let (report, signal) = (report.clone(), flushing.signal);
        // A thread each, left behind when the time is over: the SDK has no flush that can be given
        // up.
        let started = thread::Builder::new()
            .name("telemetry-flush".to_owned())
            .spawn(move || {
                flush_until(deadline, work.as_ref());
                // After the time limit the result has no receiver.
                report.send(signal).ok();
            });
        waiting += usize::from(started.is_ok());
    }
    while waiting > 0 {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(signal) = reports.recv_timeout(left) else {
            break;
        };
        waiting -= 1;
        all.iter_mut()
            .filter(|flushing| flushing.signal == signal)
            .for_each(|flushing| flushing.done = true);
    }
    let lost = all
        .iter()
        .map(|flushing| (flushing.signal, flushing.lost()))
        .filter(|(_, items)| *items > 0);
    let flushed = Flushed {
        lost: lost.collect(),
        took: begun.elapsed(),
    };
    if !flushed.is_complete() {
        let took_ms = u64::try_from(flushed.took.as_millis()).unwrap_or(u64::MAX);
        warn!(lost = %flushed, took_ms, "telemetry was not delivered completely");
    }
    flushed
}

impl Flushing<'_> {
    fn lost(&self) -> u64 {
        let refused = self.tally.lost_total().saturating_sub(self.lost_before);
        let unfinished = u64::from(self.signal == Signal::Metrics && !self.done);
        let waiting = self.made_before.saturating_sub(self.tally.ended_total());
        refused + waiting + unfinished
    }
}

fn all(outlets: &SenderSlots) -> Vec<Flushing<'_>> {
    let flushing = |outlet| {
        let tally: &SignalCounters = SenderSlot::tally(outlet);
        Flushing {
            signal: outlet.signal(),
            tally,
            lost_before: tally.lost_total(),
            made_before: tally.ended_total() + tally.queued(),
            done: false,
        }
    };
    outlets.each().map(flushing).collect()
}

type Work = Box<dyn Fn() -> OTelSdkResult + Send>;

/// How to flush a signal; `None` while nothing is plugged in, when it would only wait.
fn work(pipelines: &Pipelines, signal: Signal) -> Option<Work> {
    pipelines
        .outlets
        .of(signal)
        .filter(|outlet| outlet.is_attached())?;
    Some(match signal {
        Signal::Traces => {
            let provider = pipelines.traces.clone();
            Box::new(move || provider.force_flush())
        }
        Signal::Metrics => {
            let provider = pipelines.metrics.clone();
            Box::new(move || provider.force_flush())
        }
        Signal::Logs => {
            let provider = pipelines.logs.clone()?;
            Box::new(move || provider.force_flush())
        }
    })
}

/// The SDK's own flush gives up after 5 s, a constant; a longer limit of ours is honoured by asking
/// again.
fn flush_until(deadline: Instant, work: &(dyn Fn() -> OTelSdkResult + Send)) {
    while let Err(OTelSdkError::Timeout(_)) = work() {
        if Instant::now() >= deadline {
            return;
        }
    }
}
