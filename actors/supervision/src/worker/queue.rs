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
const HANDS: usize = 2;

/// A thread that one worker has held for so long is replaced while it does.
const HELD: Duration = Duration::from_millis(100);

/// What a task belongs to.
pub(super) struct Owner {
    pub(super) pulse: Arc<Pulse>,
    pub(super) lifeline: Lifeline,
}

/// The workers that have something to do, and the threads that see to it.
pub(super) struct Queue {
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
    pub(super) fn new(handle: Handle) -> Self {
        Self {
            handle,
            state: Mutex::default(),
        }
    }

    /// What is ready and will be polled no more.
    pub(super) fn close(&self) -> VecDeque<Runnable<Owner>> {
        std::mem::take(&mut self.lock().ready)
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a thread poll `runnable`.
    pub(super) fn push(self: &Arc<Self>, runnable: Runnable<Owner>) {
        let mut state = self.lock();
        state.ready.push_back(runnable);
        let hired = state.hire();
        drop(state);
        self.start(hired);
    }

    /// Lets another thread take the place of each that one worker has held for too long.
    pub(super) fn relieve(self: &Arc<Self>) {
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
