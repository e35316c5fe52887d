//! Which worker is polled next, and by which thread.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_task::Runnable;
use tokio::runtime::Handle;

use super::pulse::Pulse;
use crate::{Lifeline, life::panic_hook};

/// Threads that poll workers at a time, those aside that one worker holds.
const POLL_THREADS: usize = 2;

/// A thread that one worker has held for so long is replaced while it does.
const HELD_AFTER: Duration = Duration::from_millis(100);

/// The owner of a task.
pub(super) struct TaskOwner {
    pub(super) pulse: Arc<Pulse>,
    pub(super) lifeline: Lifeline,
}

/// The workers that have something to do, and the threads that see to it.
pub(super) struct RunQueue {
    handle: Handle,
    state: Mutex<QueueState>,
}

#[derive(Default)]
struct QueueState {
    ready: VecDeque<Runnable<TaskOwner>>,
    /// Those that poll, or are about to.
    threads: Vec<PollThread>,
    last_id: u64,
}

struct PollThread {
    id: u64,
    since: Instant,
    /// Held by one worker for too long: it does not count towards [`POLL_THREADS`].
    held: bool,
}

impl QueueState {
    /// The number of a thread that is to be started, if there is work for one more.
    fn add_thread(&mut self) -> Option<u64> {
        let free = self.threads.iter().filter(|thread| !thread.held).count();
        if self.ready.is_empty() || free >= POLL_THREADS {
            return None;
        }
        self.last_id += 1;
        self.threads.push(PollThread {
            id: self.last_id,
            since: Instant::now(),
            held: false,
        });
        Some(self.last_id)
    }

    /// The next task of thread `id`; `None` if it may end.
    fn next(&mut self, id: u64) -> Option<Runnable<TaskOwner>> {
        let at = self.threads.iter().position(|thread| thread.id == id)?;
        let came_back = std::mem::take(&mut self.threads[at].held);
        let free = self.threads.iter().filter(|thread| !thread.held).count();
        let replaced = came_back && free > POLL_THREADS;
        let next = if replaced {
            None
        } else {
            self.ready.pop_front()
        };
        match next {
            Some(_) => self.threads[at].since = Instant::now(),
            None => {
                self.threads.swap_remove(at);
            }
        }
        next
    }
}

impl RunQueue {
    pub(super) fn new(handle: Handle) -> Self {
        Self {
            handle,
            state: Mutex::default(),
        }
    }

    /// Ready tasks that are never polled again.
    pub(super) fn close(&self) -> VecDeque<Runnable<TaskOwner>> {
        std::mem::take(&mut self.lock().ready)
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a thread poll `runnable`.
    pub(super) fn push(self: &Arc<Self>, runnable: Runnable<TaskOwner>) {
        let mut state = self.lock();
        state.ready.push_back(runnable);
        let added = state.add_thread();
        drop(state);
        self.start(added);
    }

    /// Lets another thread take the place of each that one worker has held for too long.
    pub(super) fn relieve(self: &Arc<Self>) {
        let mut state = self.lock();
        let now = Instant::now();
        for thread in &mut state.threads {
            thread.held |= now.duration_since(thread.since) >= HELD_AFTER;
        }
        let added: Vec<u64> = std::iter::from_fn(|| state.add_thread()).collect();
        drop(state);
        added
            .into_iter()
            .for_each(|thread| self.start(Some(thread)));
    }

    fn start(self: &Arc<Self>, added: Option<u64>) {
        if let Some(thread) = added {
            let queue = Arc::clone(self);
            let start = || self.handle.spawn_blocking(move || queue.work(thread));
            // tokio panics if the operating system has no thread left: it is tried again later.
            if catch_unwind(AssertUnwindSafe(start)).is_err() {
                self.lock().threads.retain(|it| it.id != thread);
            }
        }
    }

    /// The loop of one thread: polls workers until there is nothing to do.
    fn work(&self, thread: u64) {
        loop {
            let next = self.lock().next(thread);
            let Some(runnable) = next else {
                return;
            };
            poll(runnable);
        }
    }
}

fn poll(runnable: Runnable<TaskOwner>) {
    let owner = runnable.metadata();
    let (pulse, lifeline) = (Arc::clone(&owner.pulse), owner.lifeline.clone());
    panic_hook::own_this_thread(Some(lifeline));
    pulse.take_thread();
    // A panic of the worker is caught within; this one would be of the drop of a worker that was ended.
    catch_unwind(AssertUnwindSafe(|| runnable.run())).ok();
    pulse.leave_thread();
    panic_hook::own_this_thread(None);
}
