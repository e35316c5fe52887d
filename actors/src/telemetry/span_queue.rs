//! Encodes spans as they end, and hands them to an [`Outlet`] in batches, on a thread of its own.
//!
//! In the place of the SDK's batch processor, whose queue holds the spans themselves: thousands of them,
//! each in a dozen pieces, which no cache holds until another thread comes to encode and free them.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry::Context;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};

use super::encode::{Batch, encoded};
use super::outlet::Outlet;
use super::queue::{BATCH, DELAY, admit};
use super::spans::SpanSender;

/// Most bytes of one export, but for a last span that is longer: collectors take 4 MiB by default.
const BATCH_BYTES: usize = 1024 * 1024;

/// Longest wait of a flush that is asked to wait for as long as it takes. The SDK's own.
const FLUSH: Duration = Duration::from_secs(5);

/// Takes ended spans for export.
pub(super) struct SpanQueue {
    shared: Arc<Shared>,
    outlet: Outlet<SpanSender>,
}

struct Shared {
    state: Mutex<State>,
    /// There is something to do for the thread.
    work: Condvar,
    /// A batch is done, or the thread has ended.
    done: Condvar,
}

#[derive(Default)]
struct State {
    /// Takes the spans that end now.
    open: Batch,
    /// Waits for the thread.
    full: VecDeque<Batch>,
    /// Batches that have left `open`, and those of them that are done with.
    closed: u64,
    done: u64,
    is_shut: bool,
    has_ended: bool,
}

impl SpanQueue {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// The system has no thread left.
    pub(super) fn start(outlet: Outlet<SpanSender>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
        });
        let (working, through) = (Arc::clone(&shared), outlet.clone());
        thread::Builder::new()
            .name("telemetry-spans".to_owned())
            .spawn(move || working.work(&through))?;
        Ok(Self { shared, outlet })
    }
}

impl Shared {
    /// What the thread does until it is shut and everything is done.
    fn work(&self, outlet: &Outlet<SpanSender>) {
        let _no_spans_of_the_export_itself = Context::enter_telemetry_suppressed_scope();
        while let Some(batch) = self.next() {
            outlet.export(&batch);
            drop(batch);
            self.state().done += 1;
            self.done.notify_all();
        }
        self.state().has_ended = true;
        self.done.notify_all();
    }

    /// Waits for a batch that is full, has waited for [`DELAY`], or is asked for.
    fn next(&self) -> Option<Batch> {
        let mut state = self.state();
        loop {
            if let Some(batch) = state.full.pop_front() {
                return Some(batch);
            }
            if state.is_shut {
                return None;
            }
            let waited = self.work.wait_timeout(state, DELAY);
            let (woken, timed) = waited.unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if timed.timed_out() {
                state.close();
            }
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
    /// Lets nothing more into the open batch.
    fn close(&mut self) {
        if self.open.spans() > 0 {
            self.full.push_back(std::mem::take(&mut self.open));
            self.closed += 1;
        }
    }
}

impl SpanProcessor for SpanQueue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() || !admit(&self.outlet) {
            return;
        }
        let is_full = encoded(&span, |field| {
            let mut state = self.shared.state();
            state.open.add(&span.instrumentation_scope, field);
            let is_full = state.open.spans() >= BATCH as u64 || state.open.bytes() >= BATCH_BYTES;
            if is_full {
                state.close();
            }
            is_full
        });
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
            state.done >= wanted || state.has_ended
        })
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        // A batch that waits for an exporter would keep the thread from ending.
        self.outlet.close();
        {
            let mut state = self.shared.state();
            state.close();
            state.is_shut = true;
        }
        self.shared.work.notify_one();
        self.shared
            .wait(Instant::now() + timeout, |state| state.has_ended)
    }
}

impl fmt::Debug for SpanQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanQueue")
            .field("outlet", &self.outlet)
            .finish_non_exhaustive()
    }
}
