//! The share of the database of one module at a time, so that none starves the others.
//!
//! Work of a module takes a place of the module's before it asks the pool. There are as many places as the
//! module's share of the connections, so the rest is there for the others, and further work of the module waits in the
//! module's own queue. SQLite's only connection that writes is shared: of each module one piece of work at a time waits
//! for it or has it, so modules take turns.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout_at,
};

use crate::DbError;

/// More work of one module does not wait; it is refused at once.
const WAITING_MAX: usize = 1024;

/// The part of something that modules share - connections, requests - which one module may have at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u8);

impl Share {
    /// Half of them, which is what a module gets unless it says otherwise.
    pub const HALF: Self = Self(50);

    /// That many hundredths, from 1 to 100.
    #[must_use]
    pub const fn percent(percent: u8) -> Self {
        Self(match percent {
            0 => 1,
            1..=100 => percent,
            _ => 100,
        })
    }

    /// Of that many; of any share there is at least one.
    #[must_use]
    pub fn of(self, all: usize) -> usize {
        (all.saturating_mul(usize::from(self.0)) / 100).max(1)
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::HALF
    }
}

/// The present use of the database by one module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModuleLoad {
    /// The module.
    pub module: &'static str,
    /// Connections that its work holds, or is being lent.
    pub used: usize,
    /// The most that it may hold.
    pub max: usize,
    /// Pieces of its work that wait for one.
    pub waiting: usize,
}

/// The places of one module. They outlive the actor's lives.
pub(crate) struct Bulkhead {
    module: &'static str,
    share: Share,
    /// For reading, and on PostgreSQL for everything.
    shared: Lane,
    /// For SQLite's only connection that writes.
    writer: Lane,
    /// Pieces of work that keep a place of the writer, in place of which others write: they block their threads.
    replaced: AtomicUsize,
}

impl Bulkhead {
    pub(crate) fn new(module: &'static str, share: Share) -> Self {
        Self {
            module,
            share,
            shared: Lane::new(),
            writer: Lane::new(),
            replaced: AtomicUsize::new(0),
        }
    }

    /// Has another piece of work write in place of one that blocks its thread.
    pub(crate) fn replace(&self) {
        self.replaced.fetch_add(1, Relaxed);
        self.writer.fit(self.writers());
    }

    /// That one has ended.
    pub(crate) fn drop_replacement(&self) {
        self.replaced.fetch_sub(1, Relaxed);
    }

    fn writers(&self) -> usize {
        1 + self.replaced.load(Relaxed)
    }

    /// The module's name.
    pub(crate) fn module(&self) -> &'static str {
        self.module
    }

    /// A place for work of this module, if one is free by `deadline`: on one of the connections that all modules share, of
    /// which there are `shared`, or on SQLite's only one that writes.
    pub(super) async fn place(
        &self,
        shared: Option<usize>,
        deadline: Instant,
    ) -> Result<Place<'_>, DbError> {
        let lane = match shared {
            Some(connections) => {
                self.shared.fit(self.share.of(connections));
                &self.shared
            }
            None => {
                self.writer.fit(self.writers());
                &self.writer
            }
        };
        let asked = Instant::now();
        let place = lane.enter(deadline).await;
        place.ok_or_else(|| DbError::PoolExhausted {
            waited: asked.elapsed(),
            module: Some(self.module),
        })
    }

    pub(crate) fn load(&self) -> ModuleLoad {
        let lanes = [&self.shared, &self.writer];
        ModuleLoad {
            module: self.module,
            used: lanes.iter().map(|lane| lane.used()).sum(),
            max: lanes.iter().map(|lane| lane.places()).sum(),
            waiting: lanes.iter().map(|lane| lane.waiting.load(Relaxed)).sum(),
        }
    }
}

/// A place on loan; free again when this is dropped.
pub(crate) struct Place<'a>(#[expect(dead_code, reason = "held for its drop")] SemaphorePermit<'a>);

/// Places that are taken in the order of asking.
struct Lane {
    free: Semaphore,
    /// How many there are, taken ones included.
    places: Mutex<usize>,
    waiting: AtomicUsize,
}

impl Lane {
    fn new() -> Self {
        Self {
            free: Semaphore::new(0),
            places: Mutex::new(0),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Lets there be that many places, now or, where more are taken, as they come back.
    fn fit(&self, wanted: usize) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted > *places {
            self.free.add_permits(wanted - *places);
            *places = wanted;
        } else if wanted < *places {
            *places -= self.free.forget_permits(*places - wanted);
        }
    }

    async fn enter(&self, deadline: Instant) -> Option<Place<'_>> {
        if let Ok(free) = self.free.try_acquire() {
            return Some(Place(free));
        }
        let waiting = Waiting::among(&self.waiting)?;
        let freed = timeout_at(deadline.into(), self.free.acquire()).await;
        drop(waiting);
        freed.ok()?.ok().map(Place)
    }

    fn places(&self) -> usize {
        *self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn used(&self) -> usize {
        self.places().saturating_sub(self.free.available_permits())
    }
}

/// Counts who waits, also if he goes away.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn among(count: &'a AtomicUsize) -> Option<Self> {
        let waiting = Self(count);
        (count.fetch_add(1, Relaxed) < WAITING_MAX).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_any_share_there_is_at_least_one_connection_and_never_more_than_there_are() {
        assert_eq!(Share::HALF.of(10), 5);
        assert_eq!(Share::HALF.of(1), 1);
        assert_eq!(Share::percent(0).of(10), 1);
        assert_eq!(Share::percent(255).of(10), 10);
    }
}
