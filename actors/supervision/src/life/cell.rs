//! The counters that all lives of one child share: written by its thread and its callers, read by
//! the supervisor and by metrics. All are atomics, so no caller and no reader waits.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::{
    Cause, Policy,
    worker::{WorkerRecord, WorkerVitals},
};

/// How late a timer may be before the thread that set it is taken to have been paused itself.
pub(crate) const CLOCK_SLACK: Duration = Duration::from_millis(250);

/// How a call ended, for measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// With an answer, of any content.
    Answered,
    /// With a [`CallError`](crate::CallError).
    Failed,
}

/// Receives each call's actor, duration and outcome; runs in the caller's task and must not block.
pub type CallObserver = Arc<dyn Fn(&'static str, Duration, CallOutcome) + Send + Sync>;

/// The counters of one child.
pub(crate) struct Cell {
    pub(crate) name: &'static str,
    pub(crate) policy: Policy,
    pub(crate) observer: Option<CallObserver>,
    /// The life that may speak and be spoken to; 0 while there is none.
    current: AtomicU64,
    /// Held while a life changes what callers see, so that a former life can't undo its successor's offer.
    gate: Mutex<()>,
    in_flight: AtomicUsize,
    /// Calls past their deadline since the last answer.
    unanswered: AtomicU32,
    /// [`now`] of the last answer.
    answered_at: AtomicU64,
    /// [`now`] of the last sign of life.
    progress: AtomicU64,
    /// [`now`] before which another call is of no use.
    retry_at: AtomicU64,
    restarts: [AtomicU64; Cause::ALL.len()],
    /// State of workers only.
    worker: Option<Arc<WorkerRecord>>,
}

impl Cell {
    pub(crate) fn new(
        name: &'static str,
        policy: Policy,
        observer: Option<CallObserver>,
        worker: Option<Arc<WorkerRecord>>,
    ) -> Self {
        Self {
            name,
            policy,
            observer,
            current: AtomicU64::new(0),
            gate: Mutex::new(()),
            in_flight: AtomicUsize::new(0),
            unanswered: AtomicU32::new(0),
            answered_at: AtomicU64::new(0),
            progress: AtomicU64::new(0),
            retry_at: AtomicU64::new(0),
            restarts: Default::default(),
            worker,
        }
    }

    pub(crate) fn begin_life(&self, generation: u64) {
        self.unanswered.store(0, Relaxed);
        self.note_progress();
        self.current.store(generation, Relaxed);
    }

    /// Fences a life off: what it reports from now on has no effect.
    pub(crate) fn end_life(&self) {
        self.current.store(0, Relaxed);
    }

    pub(crate) fn is_current(&self, generation: u64) -> bool {
        self.current.load(Relaxed) == generation
    }

    pub(crate) fn gate(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note_progress(&self) {
        self.progress.store(now(), Relaxed);
    }

    pub(crate) fn since_progress(&self) -> Duration {
        Duration::from_micros(now().saturating_sub(self.progress.load(Relaxed)))
    }

    /// An answer is a sign of life: an actor that is merely busy is not taken for hung.
    pub(crate) fn note_answer(&self) {
        self.answered_at.store(now(), Relaxed);
        self.unanswered.store(0, Relaxed);
        self.note_progress();
    }

    /// Counts a call that was asked at that [`now`] and is past its deadline.
    ///
    /// Not if another was answered while it waited: then the actor is slow. Nor if the deadline itself
    /// came late: then the caller, or the whole process, stood still and can't judge.
    pub(crate) fn note_unanswered(&self, asked_at: u64) {
        let answered_since = self.answered_at.load(Relaxed) > asked_at;
        let waited = Duration::from_micros(now().saturating_sub(asked_at));
        if !answered_since && waited < self.policy.call_timeout + CLOCK_SLACK {
            self.unanswered.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn unanswered(&self) -> u32 {
        self.unanswered.load(Relaxed)
    }

    /// Room for one more call, or `None` at the limit. Given back on drop.
    pub(crate) fn admit(&self) -> Option<Admission<'_>> {
        if self.in_flight.fetch_add(1, Relaxed) < self.policy.in_flight_limit {
            Some(Admission(self))
        } else {
            self.in_flight.fetch_sub(1, Relaxed);
            None
        }
    }

    pub(crate) fn set_retry_in(&self, delay: Duration) {
        self.retry_at
            .store(now() + delay.as_micros() as u64, Relaxed);
    }

    pub(crate) fn retry_in(&self) -> Duration {
        Duration::from_micros(self.retry_at.load(Relaxed).saturating_sub(now()))
    }

    pub(crate) fn count_restart(&self, cause: Cause) {
        self.restarts[cause as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn observe(&self, took: Duration, outcome: CallOutcome) {
        if let Some(observer) = &self.observer {
            observer(self.name, took, outcome);
        }
    }

    pub(crate) fn vitals(&self) -> Vitals {
        let current = self.current.load(Relaxed);
        Vitals {
            name: self.name,
            calls_in_flight: self.in_flight.load(Relaxed),
            heartbeat_age: match &self.worker {
                Some(worker) => worker.holds_thread_for(current),
                None => (current != 0).then(|| self.since_progress()),
            },
            restarts: Cause::ALL.map(|cause| (cause, self.restarts[cause as usize].load(Relaxed))),
            worker: self.worker.as_ref().map(|worker| worker.vitals(current)),
        }
    }
}

impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cell")
            .field("vitals", &self.vitals())
            .finish_non_exhaustive()
    }
}

/// One call's place among those under way.
pub(crate) struct Admission<'a>(&'a Cell);

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// The figures of one actor at one moment.
#[derive(Clone, Debug)]
pub struct Vitals {
    /// The actor.
    pub name: &'static str,
    /// Calls that wait for an answer.
    pub calls_in_flight: usize,
    /// Time since its thread last showed progress; `None` while it has none. Of a worker, how long it has
    /// held its thread without a pause: nothing while it waits.
    pub heartbeat_age: Option<Duration>,
    /// Restarts since the process started, by cause.
    pub restarts: [(Cause, u64); Cause::ALL.len()],
    /// More of a worker; `None` of an actor.
    pub worker: Option<WorkerVitals>,
}

/// Microseconds on a clock that starts with its first use and never goes back.
pub(crate) fn now() -> u64 {
    static ANCHOR: OnceLock<Instant> = OnceLock::new();
    ANCHOR.get_or_init(Instant::now).elapsed().as_micros() as u64
}
