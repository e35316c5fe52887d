//! What waits for a thread: bounded in all and for each client network, known devices first.

use std::{
    collections::VecDeque,
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::password::phc::Memory;

/// Jobs that may wait.
pub(super) const MOST_WAITING: usize = 64;

/// Jobs of one client network that may wait, unless they come from a known device.
const MOST_OF_NETWORK: usize = 2;

/// Jobs of known devices and signed-in callers that are taken one after the other while others wait.
const MOST_KNOWN_TAKEN: usize = 3;

/// A job that has waited for longer is not begun.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// What waits for a thread, and the threads.
#[derive(Default)]
pub(super) struct Queue {
    /// Of known devices and signed-in callers; they go first.
    pub(super) known: VecDeque<Job>,
    /// Of all others.
    unknown: VecDeque<Job>,
    pub(super) threads: usize,
    pub(super) idle: usize,
    /// Known jobs that were taken since the last other one.
    known_taken: usize,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.known.len() + self.unknown.len()
    }

    /// The next job: a known one, but after so many of them one of the others, which would else never be begun.
    pub(super) fn pop(&mut self) -> Option<Job> {
        let is_turn_of_unknown = self.known_taken >= MOST_KNOWN_TAKEN && !self.unknown.is_empty();
        if is_turn_of_unknown || self.known.is_empty() {
            self.known_taken = 0;
            return self.unknown.pop_front();
        }
        self.known_taken += 1;
        self.known.pop_front()
    }

    /// Puts the job in, and another out if there must be room for it; `false` if there is none.
    pub(super) fn push(&mut self, job: Job, is_known: bool) -> bool {
        for jobs in [&mut self.known, &mut self.unknown] {
            jobs.retain(|waiting| waiting.since.elapsed() <= LONGEST_WAIT);
        }
        let is_full = self.len() >= MOST_WAITING;
        if is_known {
            if is_full && self.unknown.pop_back().is_none() {
                return false;
            }
            self.known.push_back(job);
            return true;
        }
        let others = self.unknown.iter();
        let of_network = others.filter(|waiting| waiting.network == job.network);
        let is_crowding = job.network.is_some() && of_network.count() >= MOST_OF_NETWORK;
        if is_full || is_crowding {
            return false;
        }
        self.unknown.push_back(job);
        true
    }
}

/// Work on a password.
pub(super) struct Job {
    pub(super) network: Option<IpAddr>,
    pub(super) since: Instant,
    pub(super) run: Box<dyn FnOnce(&mut Memory) + Send>,
}
