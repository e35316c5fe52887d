//! The threads that all workers of a tree share.
//!
//! Timers and sockets are driven by one small tokio runtime, and so is what workers spawn. The workers
//! themselves are polled by a crew of threads out of that runtime's blocking pool, at most [`HANDS`] at a
//! time, which end when there is nothing to do. So a worker that blocks its thread holds up no timer; the
//! supervisor notices it, and lets another thread take its place until it comes back.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_task::{Builder, Runnable, Task};
use tokio::runtime::{self, Handle, Runtime};

use super::pulse::Pulse;
use crate::{Lifeline, life::panic_hook};

/// Threads of the runtime, and threads that poll workers at a time.
const HANDS: usize = 2;

/// A thread that one worker has held for so long is replaced while it does.
const HELD: Duration = Duration::from_millis(100);

const NAME: &str = "dotmac-workers";

/// Starts the threads with the first worker.
#[derive(Default)]
pub(crate) struct WorkerThreads {
    crew: Mutex<Option<Arc<Crew>>>,
    observer: Option<fn(&Handle)>,
}

impl WorkerThreads {
    pub(crate) fn observed(observer: fn(&Handle)) -> Self {
        Self {
            observer: Some(observer),
            ..Self::default()
        }
    }

    /// The threads on which a worker is to run.
    ///
    /// # Errors
    ///
    /// The operating system has no thread left.
    pub(crate) fn crew(&self) -> io::Result<Arc<Crew>> {
        let mut current = self.crew.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(crew) = &*current {
            return Ok(Arc::clone(crew));
        }
        let crew = Arc::new(Crew::start()?);
        if let Some(observe) = self.observer {
            observe(&crew.queue.handle);
        }
        *current = Some(Arc::clone(&crew));
        Ok(crew)
    }
}

/// What a task of the crew belongs to.
pub(crate) struct Owner {
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) lifeline: Lifeline,
}

/// One runtime and the threads that poll workers.
pub(crate) struct Crew {
    queue: Arc<Queue>,
    /// `None` only while this is dropped.
    runtime: Option<Runtime>,
}

impl Crew {
    fn start() -> io::Result<Self> {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(HANDS)
            .thread_name(NAME)
            .enable_all()
            .build()?;
        let queue = Queue {
            handle: runtime.handle().clone(),
            state: Mutex::default(),
        };
        Ok(Self {
            queue: Arc::new(queue),
            runtime: Some(runtime),
        })
    }

    /// Begins to poll `future`. Dropping the task ends it: it is not polled again, and dropped by a thread
    /// of the crew.
    pub(crate) fn spawn<F>(&self, owner: Owner, future: F) -> Task<(), Owner>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let queue = Arc::clone(&self.queue);
        let schedule = move |runnable| Queue::push(&queue, runnable);
        let (runnable, task) = Builder::new().metadata(owner).spawn(|_| future, schedule);
        runnable.schedule();
        task
    }

    /// Lets another thread take the place of each that one worker has held for too long. To be called now
    /// and then.
    pub(crate) fn relieve(&self) {
        self.queue.relieve();
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        let left = std::mem::take(&mut self.queue.lock().ready);
        if let Some(runtime) = self.runtime.take() {
            // Not waited for: a thread that is blocked may never end.
            runtime.shutdown_background();
        }
        // Workers that were ended while every thread was blocked. Their drop may block, too.
        if !left.is_empty() {
            let drop_them = move || drop(left);
            std::thread::Builder::new()
                .name(NAME.into())
                .spawn(drop_them)
                .ok();
        }
    }
}

/// The workers that have something to do, and the threads that see to it.
struct Queue {
    handle: Handle,
    state: Mutex<QueueState>,
}

#[derive(Default)]
struct QueueState {
    ready: VecDeque<Runnable<Owner>>,
    /// One for each thread of the crew: what it polls, if anything.
    hands: Vec<Hand>,
    next_hand: u64,
}

struct Hand {
    id: u64,
    since: Instant,
    /// Held by one worker for too long: it does not count towards [`HANDS`].
    held: bool,
}

impl QueueState {
    /// The number of a thread that is to be started, if there is work for one more.
    fn hire(&mut self) -> Option<u64> {
        let free = self.hands.iter().filter(|hand| !hand.held).count();
        if self.ready.is_empty() || free >= HANDS {
            return None;
        }
        self.next_hand += 1;
        self.hands.push(Hand {
            id: self.next_hand,
            since: Instant::now(),
            held: false,
        });
        Some(self.next_hand)
    }

    /// What thread `id` does next; `None` if it may end.
    fn next(&mut self, id: u64) -> Option<Runnable<Owner>> {
        let at = self.hands.iter().position(|hand| hand.id == id)?;
        let came_back = std::mem::take(&mut self.hands[at].held);
        let free = self.hands.iter().filter(|hand| !hand.held).count();
        let replaced = came_back && free > HANDS;
        let next = if replaced {
            None
        } else {
            self.ready.pop_front()
        };
        match next {
            Some(_) => self.hands[at].since = Instant::now(),
            None => {
                self.hands.swap_remove(at);
            }
        }
        next
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(self: &Arc<Self>, runnable: Runnable<Owner>) {
        let mut state = self.lock();
        state.ready.push_back(runnable);
        let hired = state.hire();
        drop(state);
        self.start(hired);
    }

    fn relieve(self: &Arc<Self>) {
        let mut state = self.lock();
        let now = Instant::now();
        for hand in &mut state.hands {
            hand.held |= now.duration_since(hand.since) >= HELD;
        }
        let hired: Vec<u64> = std::iter::from_fn(|| state.hire()).collect();
        drop(state);
        hired.into_iter().for_each(|hand| self.start(Some(hand)));
    }

    fn start(self: &Arc<Self>, hired: Option<u64>) {
        if let Some(hand) = hired {
            let queue = Arc::clone(self);
            let start = || self.handle.spawn_blocking(move || queue.work(hand));
            // tokio panics if the operating system has no thread left: it is tried again later.
            if catch_unwind(AssertUnwindSafe(start)).is_err() {
                self.lock().hands.retain(|it| it.id != hand);
            }
        }
    }

    /// What one thread does: polls workers until there is nothing to do.
    fn work(&self, hand: u64) {
        loop {
            let next = self.lock().next(hand);
            let Some(runnable) = next else {
                return;
            };
            poll(runnable);
        }
    }
}

fn poll(runnable: Runnable<Owner>) {
    let owner = runnable.metadata();
    let (pulse, lifeline) = (Arc::clone(&owner.pulse), owner.lifeline.clone());
    panic_hook::own_this_thread(Some(lifeline));
    pulse.take_thread();
    // A panic of the worker is caught within; this one would be of the drop of a worker that was ended.
    catch_unwind(AssertUnwindSafe(|| runnable.run())).ok();
    pulse.leave_thread();
    panic_hook::own_this_thread(None);
}
