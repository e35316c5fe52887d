//! The threads that all workers of a tree share.
//!
//! Timers and sockets are driven by the two threads of one small tokio runtime, and so is what workers
//! spawn. The workers themselves are polled by threads of that runtime's blocking pool, few at a time,
//! which end when there is nothing to do (`run_queue`). So a worker that blocks its thread holds up no
//! timer; the supervisor notices it, and adds a thread until that one is free again.
//!
//! A task that a worker spawns is no worker, and may block the threads of the runtime itself. Then the workers
//! move to a fresh one.

use std::{
    future::Future,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_task::{Builder, Task};
use tokio::runtime::{Builder as RuntimeBuilder, Handle, Runtime};
use tracing::error;

use super::run_queue::{RunQueue, TaskOwner};
use crate::life::cell::now;

/// Threads that drive timers, sockets and what workers spawn.
const DRIVER_THREADS: usize = 2;

/// How long a thread that polls workers waits for more of them. Short, since threads wake in turn: a few short runs a
/// second would keep many of them alive.
const POLL_THREAD_KEPT: Duration = Duration::from_millis(100);

const NAME: &str = "dotmac-workers";

/// Starts a runtime with the first worker, and another when that one makes no progress.
#[derive(Default)]
pub(crate) struct WorkerRuntimes {
    runtimes: Mutex<Runtimes>,
    observer: Option<fn(&Handle)>,
}

#[derive(Default)]
struct Runtimes {
    current: Option<Arc<WorkerRuntime>>,
    /// Probes of those that were replaced.
    replaced: Vec<Arc<Probe>>,
}

impl WorkerRuntimes {
    pub(crate) fn observed(observer: fn(&Handle)) -> Self {
        Self {
            observer: Some(observer),
            ..Self::default()
        }
    }

    /// The runtime for a new life of a worker. One that makes no progress is replaced, unless `limit` others
    /// that were replaced make none either.
    ///
    /// # Errors
    ///
    /// The operating system has no thread left.
    pub(crate) fn current(&self, limit: usize) -> io::Result<Arc<WorkerRuntime>> {
        let mut runtimes = self.runtimes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &runtimes.current
            && (!runtime.probe.stalled.load(Relaxed) || runtimes.stalled_count() >= limit)
        {
            return Ok(Arc::clone(runtime));
        }
        let runtime = Arc::new(WorkerRuntime::start()?);
        if let Some(observe) = self.observer {
            observe(runtime.handle());
        }
        if let Some(former) = runtimes.current.replace(Arc::clone(&runtime)) {
            runtimes
                .replaced
                .retain(|probe| probe.waits_for().is_some());
            runtimes.replaced.push(Arc::clone(&former.probe));
        }
        Ok(runtime)
    }

    /// Whether a worker of `runtime` would get another one.
    pub(crate) fn has_another_than(&self, runtime: &Arc<WorkerRuntime>, limit: usize) -> bool {
        let runtimes = self.runtimes.lock().unwrap_or_else(PoisonError::into_inner);
        let is_current = runtimes
            .current
            .as_ref()
            .is_some_and(|it| Arc::ptr_eq(it, runtime));
        !is_current || runtimes.stalled_count() < limit
    }
}

impl Runtimes {
    /// How many of the replaced ones still make no progress.
    fn stalled_count(&self) -> usize {
        let still = |probe: &&Arc<Probe>| probe.waits_for().is_some();
        self.replaced.iter().filter(still).count()
    }
}

/// One runtime, and the queue of its workers.
pub(crate) struct WorkerRuntime {
    queue: Arc<RunQueue>,
    probe: Arc<Probe>,
    /// `None` only while this is dropped.
    runtime: Option<Runtime>,
    handle: Handle,
}

impl WorkerRuntime {
    fn start() -> io::Result<Self> {
        let runtime = RuntimeBuilder::new_multi_thread()
            .worker_threads(DRIVER_THREADS)
            .thread_keep_alive(POLL_THREAD_KEPT)
            .thread_name(NAME)
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        Ok(Self {
            queue: Arc::new(RunQueue::new(handle.clone())),
            probe: Arc::default(),
            runtime: Some(runtime),
            handle,
        })
    }

    fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Begins to poll `future`. Dropping the task ends it: it is not polled again, and dropped by a thread
    /// of the runtime.
    pub(super) fn spawn<F>(&self, owner: TaskOwner, future: F) -> Task<(), TaskOwner>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let queue = Arc::clone(&self.queue);
        let schedule = move |runnable| RunQueue::push(&queue, runnable);
        let (runnable, task) = Builder::new().metadata(owner).spawn(|_| future, schedule);
        runnable.schedule();
        task
    }

    /// Adds threads for those that one worker holds, and asks for a sign of life if the last one is older
    /// than `period`. To be called now and then.
    pub(crate) fn look_after(&self, period: Duration) {
        self.queue.relieve();
        self.probe.send(&self.handle, period);
    }

    /// Whether the runtime has stood still for longer than `hang_after`. It stays so.
    pub(crate) fn has_stalled(&self, hang_after: Duration) -> bool {
        let stalled = &self.probe.stalled;
        let waits_for = self.probe.waits_for().filter(|waits| *waits > hang_after);
        if let Some(stalled_for) = waits_for
            && !stalled.swap(true, Relaxed)
        {
            error!(
                stalled_ms = stalled_for.as_millis() as u64,
                "the runtime of the workers makes no progress: tasks spawned by workers block its threads; the workers \
                move to a new one"
            );
        }
        stalled.load(Relaxed)
    }

    pub(crate) fn extend_deadlines(&self) {
        self.probe.asked_at.store(now(), Relaxed);
    }
}

impl Drop for WorkerRuntime {
    fn drop(&mut self) {
        let left = self.queue.close();
        if let Some(runtime) = self.runtime.take() {
            // Not waited for: a thread that is blocked may never end.
            runtime.shutdown_background();
        }
        // Workers that were ended while every thread was blocked. Their drop may block, too.
        if !left.is_empty() {
            let drop_them = move || drop(left);
            let builder = std::thread::Builder::new().name(NAME.into());
            // Without a thread they stay where they are.
            builder.spawn(drop_them).ok();
        }
    }
}

/// Asks a runtime for a sign of life. That it has to wake up for it also has it look for timers that are
/// due, if the thread which was to do so is blocked and another is not.
#[derive(Default)]
struct Probe {
    /// Questions, and those of them that are done with.
    asked: AtomicU64,
    answered: AtomicU64,
    /// [`now`] of the last question.
    asked_at: AtomicU64,
    stalled: AtomicBool,
}

impl Probe {
    fn send(self: &Arc<Self>, runtime: &Handle, period: Duration) {
        let now = now();
        let is_due = now >= self.asked_at.load(Relaxed) + period.as_micros() as u64;
        if is_due && self.waits_for().is_none() {
            self.asked_at.store(now, Relaxed);
            self.asked.fetch_add(1, Relaxed);
            let answer = ProbeGuard(Arc::clone(self));
            runtime.spawn(async move { drop(answer) });
        }
    }

    /// How long the last question has gone unanswered, if it has.
    fn waits_for(&self) -> Option<Duration> {
        let (asked, answered) = (self.asked.load(Relaxed), self.answered.load(Relaxed));
        (answered < asked)
            .then(|| Duration::from_micros(now().saturating_sub(self.asked_at.load(Relaxed))))
    }
}

/// Given by the task that was asked for, and as well when its runtime ends before.
struct ProbeGuard(Arc<Probe>);

impl Drop for ProbeGuard {
    fn drop(&mut self) {
        self.0.answered.fetch_add(1, Relaxed);
    }
}
