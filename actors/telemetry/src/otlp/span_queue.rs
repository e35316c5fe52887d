//! Hands ended spans to a [`SenderSlot`] in batches, on threads of its own.
//!
//! In the place of the SDK's batch processor, which has one export under way at a time: with a collector that is 20 ms away
//! it loses what exceeds 25 000 spans a second. Its messages are the crates' own; what an encoder of our own would save is
//! in docs/benchmarks.md.

use std::{
    collections::VecDeque,
    fmt, io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use opentelemetry::{Array, Context, KeyValue, Value};
use opentelemetry_proto::{
    tonic::collector::trace::v1::ExportTraceServiceRequest,
    transform::{
        common::tonic::ResourceAttributesWithSchema,
        trace::tonic::group_spans_by_resource_and_scope,
    },
};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{Span, SpanData, SpanProcessor},
};
use prost::Message as _;

use super::{outlet::SenderSlot, queue::admit};
use crate::config::Queue;

/// Most bytes of one export, about, but for a last span that is longer: collectors take 4 MiB by default.
const BATCH_BYTES: usize = 1024 * 1024;

/// Bytes of a span in OTLP without its texts and attributes, about.
const SPAN_BYTES: usize = 128;

/// Longest wait of a flush without a time limit. The SDK's own.
const FLUSH: Duration = Duration::from_secs(5);

/// Most exports under way at once, fewer if they hold the whole queue. With one, a collector that is 20 ms
/// away would get 25 000 spans a second at the most, however fast it takes them.
const EXPORTS: usize = 4;

/// Takes ended spans for export.
pub(crate) struct SpanQueue {
    shared: Arc<Shared>,
    outlet: SenderSlot,
    size: usize,
    batch: usize,
}

struct Shared {
    resource: ResourceAttributesWithSchema,
    state: Mutex<State>,
    /// There is a batch to export, or an end to see to.
    work: Condvar,
    /// A batch is done, or a thread has ended.
    done: Condvar,
}

/// Batches are numbered in the order in which they are closed, from 0.
struct State {
    /// Takes the spans that end now.
    open: Vec<SpanData>,
    /// Their bytes, about.
    bytes: usize,
    /// When the first of them came.
    opened: Instant,
    /// Batches that have left `open` so far.
    closed: u64,
    /// Those of them that wait for a thread, the last closed last.
    full: VecDeque<Vec<SpanData>>,
    /// The numbers of those that a thread exports.
    under_way: Vec<u64>,
    /// For how long a batch is open.
    delay: Duration,
    is_shut: bool,
    /// Threads that have not ended.
    threads: usize,
}

impl SpanQueue {
    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// The system has no thread left.
    pub(crate) fn start(outlet: SenderSlot, resource: &Resource, queue: Queue) -> io::Result<Self> {
        let batch = queue.batch.clamp(1, queue.size.max(1));
        let shared = Arc::new(Shared {
            resource: resource.into(),
            state: Mutex::new(State::new(queue.delay)),
            work: Condvar::new(),
            done: Condvar::new(),
        });
        for _ in 0..(queue.size / batch).clamp(1, EXPORTS) {
            let (working, through) = (Arc::clone(&shared), outlet.clone());
            thread::Builder::new()
                .name("telemetry-spans".to_owned())
                .spawn(move || working.work(&through))?;
            shared.state().threads += 1;
        }
        Ok(Self {
            shared,
            outlet,
            size: queue.size,
            batch,
        })
    }
}

impl Shared {
    /// The loop of a thread until the queue is shut and empty.
    fn work(&self, outlet: &SenderSlot) {
        let _no_spans_of_the_export_itself = Context::enter_telemetry_suppressed_scope();
        while let Some((number, batch)) = self.next() {
            outlet.export(batch.len() as u64, || {
                let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
                ExportTraceServiceRequest { resource_spans }.encode_to_vec()
            });
            self.state().finish(number);
            self.done.notify_all();
        }
        self.state().threads -= 1;
        self.done.notify_all();
    }

    /// Waits for a batch that is full, has been open long enough, or is asked for; with its number. The first span of a
    /// batch wakes no thread: the waiting thread polls often enough.
    fn next(&self) -> Option<(u64, Vec<SpanData>)> {
        let mut state = self.state();
        loop {
            let left = state.time_left();
            if left.is_zero() {
                state.close();
            }
            if let Some(taken) = state.take() {
                return Some(taken);
            }
            if state.is_shut {
                return None;
            }
            let woken = self.work.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for `condition` until `deadline`.
    fn wait(&self, deadline: Instant, condition: impl Fn(&State) -> bool) -> OTelSdkResult {
        let begun = Instant::now();
        let mut state = self.state();
        while !condition(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(OTelSdkError::Timeout(begun.elapsed()));
            }
            let waited = self.done.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// Nothing foreign runs under the lock, so a poisoned one holds a sound value.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(delay: Duration) -> Self {
        Self {
            open: Vec::new(),
            bytes: 0,
            opened: Instant::now(),
            closed: 0,
            full: VecDeque::new(),
            under_way: Vec::new(),
            delay,
            is_shut: false,
            threads: 0,
        }
    }

    /// For how long more spans may join the open batch.
    fn time_left(&self) -> Duration {
        if self.open.is_empty() {
            return self.delay;
        }
        self.delay.saturating_sub(self.opened.elapsed())
    }

    /// Lets nothing more into the open batch.
    fn close(&mut self) {
        if !self.open.is_empty() {
            self.full.push_back(std::mem::take(&mut self.open));
            (self.closed, self.bytes) = (self.closed + 1, 0);
        }
    }

    /// The oldest batch that waits.
    fn take(&mut self) -> Option<(u64, Vec<SpanData>)> {
        let number = self.oldest_waiting();
        let batch = self.full.pop_front()?;
        self.under_way.push(number);
        Some((number, batch))
    }

    /// Notes that batch `number` is done with.
    fn finish(&mut self, number: u64) {
        self.under_way.retain(|other| *other != number);
    }

    fn oldest_waiting(&self) -> u64 {
        self.closed - self.full.len() as u64
    }

    /// Whether it is known what became of the first `count` batches, in whichever order that was.
    fn are_done(&self, count: u64) -> bool {
        self.oldest_waiting() >= count && self.under_way.iter().all(|number| *number >= count)
    }
}

impl SpanProcessor for SpanQueue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() || !admit(&self.outlet, self.size) {
            return;
        }
        let is_full = {
            let mut state = self.shared.state();
            if state.open.is_empty() {
                state.opened = Instant::now();
                state.open.reserve(self.batch);
            }
            state.bytes += bytes(&span);
            state.open.push(span);
            let is_full = state.open.len() >= self.batch || state.bytes >= BATCH_BYTES;
            if is_full {
                state.close();
            }
            is_full
        };
        if is_full {
            self.shared.work.notify_one();
        }
    }

    /// Waits until all spans that have ended so far are done with, for 5 s at the most.
    fn force_flush(&self) -> OTelSdkResult {
        let wanted = {
            let mut state = self.shared.state();
            state.close();
            state.closed
        };
        self.shared.work.notify_one();
        self.shared.wait(Instant::now() + FLUSH, |state| {
            state.are_done(wanted) || state.threads == 0
        })
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        // A batch that waits for an exporter would keep its thread from ending.
        self.outlet.close();
        {
            let mut state = self.shared.state();
            state.close();
            state.is_shut = true;
        }
        self.shared.work.notify_all();
        self.shared
            .wait(Instant::now() + timeout, |state| state.threads == 0)
    }
}

/// About how many bytes `span` has in OTLP.
fn bytes(span: &SpanData) -> usize {
    let events = span.events.iter().flat_map(|event| &event.attributes);
    let attributes = span.attributes.iter().chain(events).map(attribute_bytes);
    SPAN_BYTES + span.name.len() + attributes.sum::<usize>()
}

fn attribute_bytes(attribute: &KeyValue) -> usize {
    let value = match &attribute.value {
        Value::String(text) => text.as_str().len(),
        Value::Array(Array::String(texts)) => texts.iter().map(|text| text.as_str().len()).sum(),
        Value::Array(Array::I64(numbers)) => numbers.len() * 8,
        Value::Array(Array::F64(numbers)) => numbers.len() * 8,
        _ => 8,
    };
    attribute.key.as_str().len() + value + 8
}

impl fmt::Debug for SpanQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanQueue")
            .field("outlet", &self.outlet)
            .finish_non_exhaustive()
    }
}
