//! Work that blocks its thread: a handler that computes for long, or waits in a way that is not `async`.
//!
//! Its own time limit cannot end it, as nothing else runs on that thread. So each piece of work leaves a [`Ticket`] while it is
//! under way, and the actor of the database, which has its own thread, checks the tickets. Work that blocks is named; one
//! that writes to SQLite and has used up its time has its transaction rolled back from outside, and the pool opens another
//! connection that writes. When it goes on, it finds its connection closed, and gets the error of work that took too long.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::{access::Access, bulkhead::Bulkhead};
use crate::connection::Task;

/// So long work may block its thread before it is named.
pub(crate) const NOTICED_AFTER: Duration = Duration::from_secs(2);

/// The work of one pool that is under way. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct UnderWay(Arc<Mutex<Vec<Arc<Ticket>>>>);

impl UnderWay {
    /// Enters work that has got its connection.
    pub(crate) fn enter(
        &self,
        operation: &'static str,
        module: Option<Arc<Bulkhead>>,
        access: Access,
        limit: Duration,
    ) -> Arc<Ticket> {
        let ticket = Arc::new(Ticket {
            operation,
            module,
            access,
            limit,
            began: Instant::now(),
            polled_since: AtomicU64::new(0),
            is_noted: AtomicBool::new(false),
            is_undone: Arc::default(),
            phase: Mutex::new(Phase::Working(None)),
        });
        lock(&self.0).push(Arc::clone(&ticket));
        ticket
    }

    /// Takes out work that has ended; see [`Ticket::leave`].
    pub(crate) fn leave(&self, ticket: &Arc<Ticket>) -> Left {
        let mut tickets = lock(&self.0);
        if let Some(place) = tickets.iter().position(|it| Arc::ptr_eq(it, ticket)) {
            tickets.swap_remove(place);
        }
        drop(tickets);
        ticket.leave()
    }

    /// Work that has blocked its thread for at least `limit`, with its time.
    pub(crate) fn blocked(&self, limit: Duration) -> Vec<(Arc<Ticket>, Duration)> {
        let tickets = lock(&self.0);
        let blocked = tickets.iter().filter_map(|ticket| {
            let since = ticket.blocked_for().filter(|since| *since >= limit)?;
            Some((Arc::clone(ticket), since))
        });
        blocked.collect()
    }
}

/// A piece of work under way.
pub(crate) struct Ticket {
    operation: &'static str,
    module: Option<Arc<Bulkhead>>,
    access: Access,
    /// How long it may take.
    limit: Duration,
    began: Instant,
    /// Since when a thread runs it, in microseconds after `began` and one more; 0 while none does.
    polled_since: AtomicU64,
    is_noted: AtomicBool,
    /// Its transaction was rolled back from outside.
    is_undone: Arc<AtomicBool>,
    phase: Mutex<Phase>,
}

/// Whose the end of a piece of work is.
enum Phase {
    /// Its own; with what rolls back its transaction from outside, once it has one.
    Working(Option<Task>),
    /// It is being ended from outside.
    Ending,
    /// It was ended from outside, and the pool has one more connection in its place.
    Replaced,
    /// It has ended.
    Left,
}

/// How a piece of work has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// By itself.
    Alone,
    /// Its connection must not be used again.
    Ended,
    /// The same, and the pool has one connection too many.
    Replaced,
}

impl Ticket {
    /// A thread runs the work until what this returns is dropped.
    pub(crate) fn polled(&self) -> Polled<'_> {
        let since = self.began.elapsed().as_micros() as u64;
        self.polled_since.store(since.saturating_add(1), Relaxed);
        Polled(self)
    }

    fn blocked_for(&self) -> Option<Duration> {
        let since = self.polled_since.load(Relaxed).checked_sub(1)?;
        self.began
            .elapsed()
            .checked_sub(Duration::from_micros(since))
    }

    /// Keeps what rolls the transaction of the work back.
    pub(crate) fn arm(&self, undo: impl FnOnce(Arc<AtomicBool>) -> Option<Task>) {
        if let Some(task) = undo(Arc::clone(&self.is_undone)) {
            *lock(&self.phase) = Phase::Working(Some(task));
        }
    }

    /// Whether its transaction was rolled back from outside.
    pub(crate) fn is_undone(&self) -> bool {
        self.is_undone.load(Relaxed)
    }

    /// How long it may take.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// Whether it may write.
    pub(crate) fn writes(&self) -> bool {
        self.access == Access::Write
    }

    /// Whether it has not been named before.
    pub(crate) fn is_news(&self) -> bool {
        !self.is_noted.swap(true, Relaxed)
    }

    /// Its description, for log lines.
    pub(crate) fn name(&self) -> String {
        match &self.module {
            Some(module) => format!("work `{}` of module `{}`", self.operation, module.module()),
            None => format!("work `{}`", self.operation),
        }
    }

    /// The places of the module whose work it is.
    pub(crate) fn module(&self) -> Option<&Bulkhead> {
        self.module.as_deref()
    }

    /// Begins to end it from outside, unless that has begun: what is to be done first.
    pub(crate) fn end(&self) -> Option<Task> {
        let mut phase = lock(&self.phase);
        let Phase::Working(task) = &mut *phase else {
            return None;
        };
        let task = task.take();
        *phase = Phase::Ending;
        Some(task.unwrap_or_else(|| Box::new(|| ())))
    }

    /// It was ended from outside: has `replace` make room for another connection, unless it has left meanwhile.
    pub(crate) fn replace(&self, replace: impl FnOnce()) {
        let mut phase = lock(&self.phase);
        if matches!(*phase, Phase::Ending) {
            replace();
            *phase = Phase::Replaced;
        }
    }

    /// It ends by itself, and nothing is done from outside any more.
    fn leave(&self) -> Left {
        match std::mem::replace(&mut *lock(&self.phase), Phase::Left) {
            Phase::Working(_) | Phase::Left => Left::Alone,
            Phase::Ending => Left::Ended,
            Phase::Replaced => Left::Replaced,
        }
    }
}

/// A thread runs a piece of work.
pub(crate) struct Polled<'a>(&'a Ticket);

impl Drop for Polled<'_> {
    fn drop(&mut self) {
        self.0.polled_since.store(0, Relaxed);
    }
}

/// Nothing that is done under a lock leaves it half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Share;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn work_is_blocked_while_a_thread_runs_it_and_not_while_it_waits() {
        let under_way = UnderWay::default();
        let notes = Arc::new(Bulkhead::new("notes", Share::HALF));
        let ticket = under_way.enter("count", Some(notes), Access::Read, LIMIT);
        assert!(under_way.blocked(Duration::ZERO).is_empty());
        let polled = ticket.polled();
        let blocked = under_way.blocked(Duration::ZERO);
        assert_eq!(blocked.len(), 1);
        assert_eq!(blocked[0].0.name(), "work `count` of module `notes`");
        assert!(under_way.blocked(Duration::from_secs(60)).is_empty());
        drop(polled);
        assert!(under_way.blocked(Duration::ZERO).is_empty());
        let _polled = ticket.polled();
        assert_eq!(under_way.leave(&ticket), Left::Alone);
        assert!(under_way.blocked(Duration::ZERO).is_empty());
    }

    #[test]
    fn work_is_ended_once_and_its_connection_replaced_unless_it_has_left() {
        let under_way = UnderWay::default();
        let made = AtomicU64::new(0);
        let more = || _ = made.fetch_add(1, Relaxed);
        let ended = under_way.enter("a", None, Access::Write, LIMIT);
        let undone = Arc::new(AtomicBool::new(false));
        ended.arm(|is_undone| {
            let undone = Arc::clone(&undone);
            Some(Box::new(move || {
                undone.store(true, Relaxed);
                is_undone.store(true, Relaxed);
            }))
        });
        ended.end().unwrap_or_else(|| Box::new(|| ()))();
        assert!(undone.load(Relaxed) && ended.is_undone());
        assert!(ended.end().is_none());
        ended.replace(more);
        ended.replace(more);
        assert_eq!(under_way.leave(&ended), Left::Replaced);
        let late = under_way.enter("b", None, Access::Write, LIMIT);
        assert!(late.end().is_some());
        assert_eq!(under_way.leave(&late), Left::Ended);
        late.replace(more);
        assert_eq!(made.load(Relaxed), 1);
        let alone = under_way.enter("c", None, Access::Write, LIMIT);
        assert_eq!(under_way.leave(&alone), Left::Alone);
        assert!(alone.end().is_none());
    }
}
