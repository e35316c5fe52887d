//! Where the batch threads hand over what they collected: a socket into which the sender is plugged
//! later.
//!
//! The pipelines are built once, before anything else, and live as long as the process; the senders
//! need a runtime and come and go with their actor. A [`SenderSlot`] stands between. It bounds every
//! export in time, counts what became of each item, and reports success to the SDK in any case: the
//! SDK would only log a line for each failure.
//!
//! While nothing is plugged in, a batch of spans or logs waits on its batch thread, and what is made
//! meanwhile in the bounded queue before it (`queue`). Metrics do not wait: the next collection
//! contains them.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    metrics::{
        Temporality,
        data::{AggregatedMetrics, MetricData, ResourceMetrics},
        exporter::PushMetricExporter,
    },
};
use prost::Message as _;

use super::{pieces::Pieces, runtime::ExportRuntime, sender::Sender};
use crate::tally::{DropReason, Failure, Signal, SignalCounters};

/// How long to wait at once where only an attachment can end the wait.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// A place for the sender of one signal. Clones are the same place.
#[derive(Clone)]
pub(crate) struct SenderSlot(Arc<Shared>);

struct Shared {
    signal: Signal,
    tally: Arc<SignalCounters>,
    limit: Duration,
    gate: Mutex<Gate>,
    changed: Condvar,
}

enum Gate {
    Detached,
    Attached(Arc<AttachedSender>),
    /// The process ends: further items are counted and dropped.
    Closed,
}

/// A sender and the runtime whose reactor drives its connections.
struct AttachedSender {
    sender: Sender,
    runtime: Arc<ExportRuntime>,
}

impl SenderSlot {
    /// An outlet with nothing in it; each export may take `limit`.
    pub(crate) fn new(signal: Signal, tally: Arc<SignalCounters>, limit: Duration) -> Self {
        Self(Arc::new(Shared {
            signal,
            tally,
            limit,
            gate: Mutex::new(Gate::Detached),
            changed: Condvar::new(),
        }))
    }

    pub(crate) fn signal(&self) -> Signal {
        self.0.signal
    }

    pub(crate) fn tally(&self) -> &Arc<SignalCounters> {
        &self.0.tally
    }

    /// Plugs a sender in, in place of a former one. An export under way ends on the former one.
    pub(crate) fn attach(&self, sender: Sender, runtime: Arc<ExportRuntime>) {
        let line = Arc::new(AttachedSender { sender, runtime });
        let former = std::mem::replace(&mut *self.gate(), Gate::Attached(line));
        self.0.changed.notify_all();
        // Outside the lock: it may be the last owner of a runtime.
        drop(former);
    }

    /// Unplugs the sender that runs on `runtime`; one that has taken its place meanwhile stays.
    pub(crate) fn detach(&self, runtime: &Arc<ExportRuntime>) {
        let mut gate = self.gate();
        let ours = matches!(&*gate, Gate::Attached(line) if Arc::ptr_eq(&line.runtime, runtime));
        let former = if ours {
            std::mem::replace(&mut *gate, Gate::Detached)
        } else {
            Gate::Detached
        };
        drop(gate);
        drop(former);
    }

    /// Lets waiting batch threads go on: nothing will be attached any more.
    pub(crate) fn close(&self) {
        let former = std::mem::replace(&mut *self.gate(), Gate::Closed);
        self.0.changed.notify_all();
        drop(former);
    }

    pub(crate) fn is_attached(&self) -> bool {
        matches!(&*self.gate(), Gate::Attached(_))
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.0.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self) -> Option<Arc<AttachedSender>> {
        match &*self.gate() {
            Gate::Attached(line) => Some(Arc::clone(line)),
            Gate::Detached | Gate::Closed => None,
        }
    }

    /// Waits until there is a sender and the collector does not ask for a pause.
    fn wait_for_line(&self) -> Option<Arc<AttachedSender>> {
        let mut gate = self.gate();
        loop {
            let pause = match &*gate {
                Gate::Closed => return None,
                Gate::Detached => Duration::MAX,
                Gate::Attached(line) => match self.0.tally.pause() {
                    Duration::ZERO => return Some(Arc::clone(line)),
                    pause => pause,
                },
            };
            let woken = self.0.changed.wait_timeout(gate, pause.min(LONGEST_WAIT));
            gate = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Sends items once there is a sender, and takes them out of the queue.
    pub(crate) fn export<R: Into<Pieces>>(&self, items: u64, request: impl FnOnce() -> R) {
        self.deliver(self.wait_for_line(), items, request);
        self.tally().release(items);
    }

    /// Makes and packs the request on the calling thread, which is there for that, and waits there while
    /// the line's runtime sends it.
    fn deliver<R: Into<Pieces>>(
        &self,
        line: Option<Arc<AttachedSender>>,
        items: u64,
        request: impl FnOnce() -> R,
    ) {
        let tally = &self.0.tally;
        let Some(line) = line else {
            return tally.dropped(items, DropReason::NotAttached);
        };
        let (runtime, limit) = (Arc::clone(&line.runtime), self.0.limit);
        // A batch thread is never replaced: a panic must not end it.
        let sent = catch_unwind(AssertUnwindSafe(|| {
            let request = line.sender.packed(request().into());
            let sending = runtime.handle().spawn(line.send(request, limit));
            runtime.handle().block_on(sending)
        }));
        let panicked = || Err(Failure::Export("the exporter panicked".to_owned()));
        let result = sent.ok().and_then(Result::ok).unwrap_or_else(panicked);
        judge(result, tally, items);
    }

    /// Tries the collector with an empty export, on the line's runtime and without waiting for the
    /// result: how trouble, or its end, is noticed while there is nothing to send.
    pub(crate) fn probe(&self) {
        let Some(line) = self.line() else { return };
        if !self.0.tally.pause().is_zero() {
            return;
        }
        let (tally, limit) = (Arc::clone(&self.0.tally), self.0.limit);
        let runtime = Arc::clone(&line.runtime);
        let request = line.sender.packed(Pieces::default());
        drop(runtime.handle().spawn(async move {
            judge(line.send(request, limit).await, &tally, 0);
        }));
    }
}

impl AttachedSender {
    /// Sends what is packed, within `limit`; gives the number of rejected items.
    async fn send(
        self: Arc<Self>,
        packed: Result<Pieces, Failure>,
        limit: Duration,
    ) -> Result<u64, Failure> {
        let sending = self.sender.send(packed?);
        let sent = tokio::time::timeout(limit, sending).await;
        sent.unwrap_or(Err(Failure::Timeout))
    }
}

/// Counts what became of an export of so many items.
fn judge(result: Result<u64, Failure>, tally: &SignalCounters, items: u64) {
    match result {
        Ok(rejected) => {
            let rejected = rejected.min(items);
            tally.succeeded(items - rejected);
            tally.dropped(rejected, DropReason::Rejected);
        }
        Err(failure) => tally.failed(items, failure),
    }
}

impl PushMetricExporter for SenderSlot {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        if !self.tally().pause().is_zero() {
            self.tally().dropped(points(metrics), DropReason::Throttled);
            return Ok(());
        }
        self.deliver(self.line(), points(metrics), || {
            ExportMetricsServiceRequest::from(metrics).encode_to_vec()
        });
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

/// Number of points in a collection: what a metrics export delivers or loses.
fn points(metrics: &ResourceMetrics) -> u64 {
    fn count<T>(data: &MetricData<T>) -> usize {
        match data {
            MetricData::Gauge(gauge) => gauge.data_points().count(),
            MetricData::Sum(sum) => sum.data_points().count(),
            MetricData::Histogram(histogram) => histogram.data_points().count(),
            MetricData::ExponentialHistogram(histogram) => histogram.data_points().count(),
        }
    }
    let metrics = metrics.scope_metrics().flat_map(|scope| scope.metrics());
    let counts = metrics.map(|metric| match metric.data() {
        AggregatedMetrics::F64(data) => count(data),
        AggregatedMetrics::U64(data) => count(data),
        AggregatedMetrics::I64(data) => count(data),
    });
    counts.sum::<usize>() as u64
}

impl fmt::Debug for SenderSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SenderSlot")
            .field("signal", &self.0.signal)
            .field("attached", &self.is_attached())
            .field("tally", &self.0.tally)
            .finish()
    }
}
