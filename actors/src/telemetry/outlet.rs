//! Where the batch threads hand over what they collected: a socket into which the real
//! exporter is plugged later.
//!
//! The SDK's pipelines are built once, before anything else, and live as long as the process; the
//! exporters need a runtime and come and go with their actor. An [`Outlet`] stands between. It
//! bounds every export in time, counts what became of each item, and reports success to the SDK in
//! any case: the SDK would only log a line for each failure.
//!
//! While nothing is plugged in, a batch of spans or logs waits on the batch thread, and what is
//! made meanwhile in the bounded queue before it (`queue`). Metrics do not wait: the next
//! collection contains them.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::logs::{LogBatch, LogExporter, SdkLogRecord};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;

use super::encode::Batch;
use super::runtime::ExportRuntime;
use super::spans::SpanSender;
use super::tally::{DropReason, Failure, Tally};

/// How long to wait at once where only an attachment can end the wait.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// A place for an exporter `E`. Clones are the same place.
pub(super) struct Outlet<E>(Arc<Shared<E>>);

struct Shared<E> {
    tally: Arc<Tally>,
    limit: Duration,
    gate: Mutex<Gate<E>>,
    changed: Condvar,
}

enum Gate<E> {
    Detached,
    Attached(Arc<Line<E>>),
    /// The process ends: whatever still comes is counted and dropped.
    Closed,
}

/// An exporter and the runtime whose reactor drives its connections.
struct Line<E> {
    exporter: E,
    runtime: Arc<ExportRuntime>,
}

impl<E> Outlet<E> {
    /// An outlet with nothing in it; each export may take `limit`.
    pub(super) fn new(tally: Arc<Tally>, limit: Duration) -> Self {
        Self(Arc::new(Shared {
            tally,
            limit,
            gate: Mutex::new(Gate::Detached),
            changed: Condvar::new(),
        }))
    }

    pub(super) fn tally(&self) -> &Arc<Tally> {
        &self.0.tally
    }

    /// Plugs an exporter in, in place of a former one. An export under way ends on the former one.
    pub(super) fn attach(&self, exporter: E, runtime: Arc<ExportRuntime>) {
        let line = Arc::new(Line { exporter, runtime });
        let former = std::mem::replace(&mut *self.gate(), Gate::Attached(line));
        self.0.changed.notify_all();
        // Outside the lock: it may be the last owner of a runtime.
        drop(former);
    }

    /// Unplugs the exporter that runs on `runtime`; one that has taken its place meanwhile stays.
    pub(super) fn detach(&self, runtime: &Arc<ExportRuntime>) {
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

    /// Lets a waiting batch thread go on: nothing will be attached any more.
    pub(super) fn close(&self) {
        let former = std::mem::replace(&mut *self.gate(), Gate::Closed);
        self.0.changed.notify_all();
        drop(former);
    }

    pub(super) fn is_attached(&self) -> bool {
        matches!(&*self.gate(), Gate::Attached(_))
    }

    fn gate(&self) -> MutexGuard<'_, Gate<E>> {
        self.0.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self) -> Option<Arc<Line<E>>> {
        match &*self.gate() {
            Gate::Attached(line) => Some(Arc::clone(line)),
            Gate::Detached | Gate::Closed => None,
        }
    }

    /// Waits until there is an exporter and the collector does not ask for a pause.
    fn wait_for_line(&self) -> Option<Arc<Line<E>>> {
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

    /// Exports on the calling thread, which is there for that and may block; the I/O is driven by
    /// the line's runtime.
    fn deliver(
        &self,
        line: Option<Arc<Line<E>>>,
        items: u64,
        export: impl AsyncFnOnce(&E) -> OTelSdkResult,
    ) {
        let tally = &self.0.tally;
        let Some(line) = line else {
            return tally.dropped(items, DropReason::NotAttached);
        };
        // The SDK cannot replace a batch thread: a panic must not end it.
        let result = catch_unwind(AssertUnwindSafe(|| {
            // The timer too is made inside the runtime: it needs the reactor.
            line.runtime.handle().block_on(async {
                tokio::time::timeout(self.0.limit, export(&line.exporter)).await
            })
        }));
        match result {
            Ok(result) => judge(result, tally, items),
            Err(_) => tally.failed(items, Failure::Export("the exporter panicked".to_owned())),
        }
    }
}

impl<E: ExportNothing> Outlet<E> {
    /// Tries the collector with an empty export, on the line's runtime and without waiting for the
    /// result: how trouble, or its end, is noticed while there is nothing to send.
    pub(super) fn probe(&self) {
        let Some(line) = self.line() else { return };
        if !self.0.tally.pause().is_zero() {
            return;
        }
        let (tally, limit) = (Arc::clone(&self.0.tally), self.0.limit);
        let runtime = Arc::clone(&line.runtime);
        drop(runtime.handle().spawn(async move {
            let result = tokio::time::timeout(limit, line.exporter.export_nothing()).await;
            judge(result, &tally, 0);
        }));
    }
}

/// Counts what became of an export of so many items.
fn judge(result: Result<OTelSdkResult, tokio::time::error::Elapsed>, tally: &Tally, items: u64) {
    let network = tally.take_network_error();
    let text = match result {
        Ok(Ok(())) => return tally.succeeded(items),
        Err(_) | Ok(Err(OTelSdkError::Timeout(_))) => {
            return tally.failed(items, Failure::Timeout);
        }
        Ok(Err(OTelSdkError::InternalFailure(text))) => text,
        Ok(Err(error)) => error.to_string(),
    };
    let held = !tally.pause().is_zero();
    tally.failed(items, Failure::of(text, network, held));
}

/// An exporter that can be tried without anything to export.
pub(super) trait ExportNothing: Send + Sync + 'static {
    fn export_nothing(&self) -> impl Future<Output = OTelSdkResult> + Send;
}

impl ExportNothing for SpanSender {
    async fn export_nothing(&self) -> OTelSdkResult {
        self.export(&Batch::default()).await
    }
}

impl ExportNothing for opentelemetry_otlp::LogExporter {
    async fn export_nothing(&self) -> OTelSdkResult {
        self.export(LogBatch::new(&[])).await
    }
}

impl ExportNothing for opentelemetry_otlp::MetricExporter {
    async fn export_nothing(&self) -> OTelSdkResult {
        self.export(&ResourceMetrics::default()).await
    }
}

impl Outlet<SpanSender> {
    /// Exports spans once there is an exporter.
    pub(super) fn export(&self, batch: &Batch) {
        self.deliver(self.wait_for_line(), batch.spans(), async |exporter| {
            exporter.export(batch).await
        });
        self.tally().release(batch.spans());
    }
}

impl<E: LogExporter> LogExporter for Outlet<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let records: Vec<(&SdkLogRecord, &InstrumentationScope)> = batch.iter().collect();
        let items = records.len() as u64;
        self.deliver(self.wait_for_line(), items, async |exporter| {
            exporter.export(LogBatch::new(&records)).await
        });
        self.tally().release(items);
        Ok(())
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Outlet<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        if !self.tally().pause().is_zero() {
            self.tally().dropped(points(metrics), DropReason::Throttled);
            return Ok(());
        }
        self.deliver(self.line(), points(metrics), async |exporter| {
            exporter.export(metrics).await
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

impl<E> Clone for Outlet<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E> fmt::Debug for Outlet<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet")
            .field("attached", &self.is_attached())
            .field("tally", &self.0.tally)
            .finish()
    }
}
