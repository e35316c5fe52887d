//! How a worker is: what its current life does, and what all its lives have done.
//!
//! Times are [`now`]s, and 0 for "not".

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwapOption;

use crate::life::cell::now;

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Parts that are done.
    pub done: u64,
    /// Of how many, if that is known.
    pub total: Option<u64>,
}

/// The figures of one worker at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerVitals {
    /// Runs that ended well since the process started.
    pub runs: u64,
    /// When the last of them ended.
    pub last_success: Option<SystemTime>,
    /// How long the current run has taken so far.
    pub running_for: Option<Duration>,
    /// The last reported progress of the current run.
    pub progress: Option<Progress>,
}

/// Figures over all lives of one worker.
#[derive(Default)]
pub(crate) struct WorkerRecord {
    runs: AtomicU64,
    /// In milliseconds since 1970.
    last_success: AtomicU64,
    life: ArcSwapOption<Pulse>,
}

impl WorkerRecord {
    pub(crate) fn begin_life(&self, pulse: &Arc<Pulse>) {
        self.life.store(Some(Arc::clone(pulse)));
    }

    pub(crate) fn note_success(&self) {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        let millis = since_epoch.unwrap_or_default().as_millis() as u64;
        self.last_success.store(millis, Relaxed);
        self.runs.fetch_add(1, Relaxed);
    }

    /// How long life `generation` has held its thread without a pause; `None` if there is no such life.
    pub(crate) fn holds_thread_for(&self, generation: u64) -> Option<Duration> {
        let life = self.life.load();
        let life = life.as_ref().filter(|life| life.generation == generation)?;
        Some(life.holds_thread_for())
    }

    /// The figures, with those of life `generation` if that is the current one.
    pub(crate) fn vitals(&self, generation: u64) -> WorkerVitals {
        let life = self.life.load();
        let life = life.as_ref().filter(|life| life.generation == generation);
        let last_success = self.last_success.load(Relaxed);
        WorkerVitals {
            runs: self.runs.load(Relaxed),
            last_success: (last_success > 0)
                .then(|| UNIX_EPOCH + Duration::from_millis(last_success)),
            running_for: life.and_then(|life| since(life.run_began.load(Relaxed))),
            progress: life.and_then(|life| life.progress()),
        }
    }
}

/// The activity of one life of a worker.
pub(crate) struct Pulse {
    generation: u64,
    /// When it was last given a thread; 0 while it waits at an `.await`.
    thread_taken: AtomicU64,
    run_began: AtomicU64,
    /// When it last showed progress within its run.
    progressed: AtomicU64,
    done: AtomicU64,
    /// `u64::MAX`: unknown.
    total: AtomicU64,
    /// How many waits are under way during which the run's limits do not count.
    pauses: AtomicU32,
    paused_at: AtomicU64,
}

impl Pulse {
    pub(crate) fn new(generation: u64) -> Self {
        Self {
            generation,
            thread_taken: AtomicU64::new(0),
            run_began: AtomicU64::new(0),
            progressed: AtomicU64::new(0),
            done: AtomicU64::new(0),
            total: AtomicU64::new(u64::MAX),
            pauses: AtomicU32::new(0),
            paused_at: AtomicU64::new(0),
        }
    }

    pub(crate) fn take_thread(&self) {
        self.thread_taken.store(now(), Relaxed);
    }

    pub(crate) fn leave_thread(&self) {
        self.thread_taken.store(0, Relaxed);
    }

    pub(crate) fn holds_thread_for(&self) -> Duration {
        since(self.thread_taken.load(Relaxed)).unwrap_or_default()
    }

    pub(crate) fn begin_run(&self) {
        self.done.store(0, Relaxed);
        self.total.store(u64::MAX, Relaxed);
        let now = now();
        self.progressed.store(now, Relaxed);
        self.run_began.store(now, Relaxed);
    }

    pub(crate) fn end_run(&self) {
        self.run_began.store(0, Relaxed);
    }

    pub(crate) fn beat(&self) {
        self.progressed.store(now(), Relaxed);
    }

    pub(crate) fn note_progress(&self, done: u64, total: Option<u64>) {
        self.done.store(done, Relaxed);
        self.total.store(total.unwrap_or(u64::MAX), Relaxed);
        self.beat();
    }

    fn progress(&self) -> Option<Progress> {
        let (done, total) = (self.done.load(Relaxed), self.total.load(Relaxed));
        let total = (total != u64::MAX).then_some(total);
        let said = self.run_began.load(Relaxed) > 0 && (done > 0 || total.is_some());
        said.then_some(Progress { done, total })
    }

    /// Time of the current run that counts towards its limits, in total and since it last showed progress.
    pub(crate) fn running_for(&self) -> Option<(Duration, Duration)> {
        let counts = self.pauses.load(Relaxed) == 0;
        let run = since(self.run_began.load(Relaxed)).filter(|_| counts)?;
        Some((
            run,
            since(self.progressed.load(Relaxed)).unwrap_or_default(),
        ))
    }

    /// Stops the clocks of the current run until the guard is dropped.
    pub(crate) fn pause(&self) -> Paused<'_> {
        if self.pauses.fetch_add(1, Relaxed) == 0 {
            self.paused_at.store(now(), Relaxed);
        }
        Paused(self)
    }

    /// Moves the beginnings of what is under way by `by`, for which the supervisor was paused.
    pub(crate) fn extend_deadlines(&self, by: Duration) {
        let by = by.as_micros() as u64;
        for time in [&self.thread_taken, &self.run_began, &self.progressed] {
            let later = |at: u64| (at > 0).then(|| (at + by).min(now()));
            // It fails for what is 0, which is to stay so.
            time.fetch_update(Relaxed, Relaxed, later).ok();
        }
    }
}

pub(crate) struct Paused<'a>(&'a Pulse);

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        let Pulse {
            pauses, paused_at, ..
        } = self.0;
        let began = paused_at.load(Relaxed);
        if pauses.fetch_sub(1, Relaxed) == 1 {
            let paused = Duration::from_micros(now().saturating_sub(began));
            let at = self.0.run_began.load(Relaxed);
            if at > 0 {
                self.0
                    .run_began
                    .store(at + paused.as_micros() as u64, Relaxed);
            }
            self.0.beat();
        }
    }
}

fn since(at: u64) -> Option<Duration> {
    (at > 0).then(|| Duration::from_micros(now().saturating_sub(at)))
}
