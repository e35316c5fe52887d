//! The context of a worker's run, and the worker's handle.

use std::{fmt, future::Future, ops::Deref, sync::Arc};

use tokio::sync::{Notify, watch};

use super::pulse::Pulse;
use crate::{ComponentHandle, Lifeline};

/// Given to each run of a worker. Clones are of the same life.
#[derive(Clone)]
pub struct WorkerContext {
    pub(super) lifeline: Lifeline,
    pub(super) pulse: Arc<Pulse>,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) asked_for: bool,
}

impl WorkerContext {
    /// How the worker says how it is: `ready` with a version or its own source, `degraded`,
    /// `unavailable`. What it says itself stays until it says something else.
    #[must_use]
    pub fn lifeline(&self) -> &Lifeline {
        &self.lifeline
    }

    /// Whether it was asked to stop. A run that goes on is dropped at its `.await` after
    /// [`Policy::stop_timeout`](crate::Policy::stop_timeout).
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits until it is asked to stop.
    pub async fn stopping(&self) {
        // The sender goes only with the life itself, which is a reason to stop as well.
        self.stop.clone().wait_for(|stop| *stop).await.ok();
    }

    /// Whether [`WorkerHandle::run_now`], or the signal of [`WorkerSpec::woken_by`](crate::WorkerSpec::woken_by), asked for this run.
    #[must_use]
    pub fn was_asked_for(&self) -> bool {
        self.asked_for
    }

    /// Shows that the run makes progress; see [`WorkerSpec::progress_within`](crate::WorkerSpec::progress_within).
    pub fn beat(&self) {
        self.pulse.beat();
    }

    /// Shows that the run makes progress, and how far it has come: `done` parts, of `total` if that is
    /// known.
    pub fn progress(&self, done: u64, total: Option<u64>) {
        self.pulse.note_progress(done, total);
    }

    /// Waits for `waiting` without counting the time towards the limits of the run: for a turn that may
    /// never come, such as that of the one instance which is to do the work.
    pub async fn paused<F: Future>(&self, waiting: F) -> F::Output {
        let _paused = self.pulse.pause();
        waiting.await
    }
}

impl fmt::Debug for WorkerContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerContext")
            .field("lifeline", self.lifeline())
            .field("is_stopping", &self.is_stopping())
            .finish_non_exhaustive()
    }
}

/// The way to one worker, for as long as the process lives. Derefs to [`ComponentHandle`], which has its name, its figures and
/// needs of it.
#[derive(Clone)]
pub struct WorkerHandle {
    pub(crate) component: ComponentHandle,
    pub(crate) wake: Arc<Notify>,
}

impl WorkerHandle {
    /// Has a periodic worker run at once instead of at the end of its interval; during a run, once more
    /// right after it. Asking many times is asking once.
    pub fn run_now(&self) {
        self.wake.notify_one();
    }
}

impl Deref for WorkerHandle {
    type Target = ComponentHandle;

    fn deref(&self) -> &ComponentHandle {
        &self.component
    }
}

impl fmt::Debug for WorkerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WorkerHandle").field(&self.name()).finish()
    }
}
