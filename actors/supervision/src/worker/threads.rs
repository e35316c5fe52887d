//! The threads that all workers of a tree share.
//!
//! Timers and sockets are driven by one small tokio runtime, and so is what workers spawn. The workers
//! themselves are polled by a crew of threads out of that runtime's blocking pool, few at a time, which
//! end when there is nothing to do (`queue`). So a worker that blocks its thread holds up no timer; the
//! supervisor notices it, and lets another thread take its place until it comes back.
//!
//! What a worker spawns is no worker, and may block the threads of the runtime itself. Then the workers
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
use tokio::runtime::{self, Handle, Runtime};
use tracing::error;

use super::queue::{Owner, Queue};
use crate::life::cell::now;

/// Threads of the runtime.
const DRIVERS: usize = 2;

const NAME: &str = "dotmac-workers";

/// Starts the threads with the first worker, and others when those stand still.
#[derive(Default)]
pub(crate) struct WorkerThreads {
    crews: Mutex<Crews>,
    observer: Option<fn(&Handle)>,
}

#[derive(Default)]
struct Crews {
    current: Option<Arc<Crew>>,
    /// Probes of those that were replaced.
    replaced: Vec<Arc<Probe>>,
}

impl WorkerThreads {
    pub(crate) fn observed(observer: fn(&Handle)) -> Self {
        Self {
            observer: Some(observer),
            ..Self::default()
        }
    }

    /// The threads on which a worker is to run: others than before if those stand still, as long as no
    /// more than `limit` runtimes have been left behind that still do.
    ///
    /// # Errors
    ///
    /// The operating system has no thread left.
    pub(crate) fn crew(&self, limit: usize) -> io::Result<Arc<Crew>> {
        let mut crews = self.crews.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(crew) = &crews.current
            && (!crew.probe.stalled.load(Relaxed) || crews.left_behind() >= limit)
        {
            return Ok(Arc::clone(crew));
        }
        let crew = Arc::new(Crew::start()?);
        if let Some(observe) = self.observer {
            observe(crew.handle());
        }
        if let Some(former) = crews.current.replace(Arc::clone(&crew)) {
            crews.replaced.retain(|probe| probe.waits_for().is_some());
            crews.replaced.push(Arc::clone(&former.probe));
        }
        Ok(crew)
    }

    /// Whether a worker on `crew` would get other threads.
    pub(crate) fn has_others_than(&self, crew: &Arc<Crew>, limit: usize) -> bool {
        let crews = self.crews.lock().unwrap_or_else(PoisonError::into_inner);
        let is_current = crews
            .current
            .as_ref()
            .is_some_and(|it| Arc::ptr_eq(it, crew));
        !is_current || crews.left_behind() < limit
    }
}

impl Crews {
    /// How many runtimes were replaced and stand still to this day.
    fn left_behind(&self) -> usize {
        let still = |probe: &&Arc<Probe>| probe.waits_for().is_some();
        self.replaced.iter().filter(still).count()
    }
}

/// One runtime and the threads that poll workers.
pub(crate) struct Crew {
    queue: Arc<Queue>,
    probe: Arc<Probe>,
    /// `None` only while this is dropped.
    runtime: Option<Runtime>,
    handle: Handle,
}

impl Crew {
    fn start() -> io::Result<Self> {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(DRIVERS)
            .thread_name(NAME)
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        Ok(Self {
            queue: Arc::new(Queue::new(handle.clone())),
            probe: Arc::default(),
            runtime: Some(runtime),
            handle,
        })
    }

    fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Begins to poll `future`. Dropping the task ends it: it is not polled again, and dropped by a thread
    /// of the crew.
    pub(super) fn spawn<F>(&self, owner: Owner, future: F) -> Task<(), Owner>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let queue = Arc::clone(&self.queue);
        let schedule = move |runnable| Queue::push(&queue, runnable);
        let (runnable, task) = Builder::new().metadata(owner).spawn(|_| future, schedule);
        runnable.schedule();
        task
    }

    /// Replaces threads that one worker holds, and asks the runtime for a sign of life if the last one is
    /// older than `period`. To be called now and then.
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
                "the runtime of the workers stands still: tasks that workers have spawned block its threads; \
                 the workers move to a fresh one"
            );
        }
        stalled.load(Relaxed)
    }

    pub(crate) fn extend_deadlines(&self) {
        self.probe.asked_at.store(now(), Relaxed);
    }
}

impl Drop for Crew {
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
            let answer = Answer(Arc::clone(self));
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
struct Answer(Arc<Probe>);

impl Drop for Answer {
    fn drop(&mut self) {
        self.0.answered.fetch_add(1, Relaxed);
    }
}
