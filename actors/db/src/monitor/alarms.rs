//! Faults of the database that traffic reports to the monitor at once.
//!
//! The monitor looks twice a second; an error that says more than "this statement was wrong" need not wait
//! for that. An alarm costs an atomic store and never waits.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, mpsc, watch},
    task::AbortHandle,
};

use super::pulse::Pulse;
use crate::{SqlState, file::Hold, instruments};
use dotmac_supervision::Reason;

/// Least time between replacements of connections after a "read-only" refusal.
const EVICTION_PAUSE: Duration = Duration::from_secs(1);

/// Shared by the connections, the pool and the monitor of one life of the actor.
#[derive(Clone, Default)]
pub(crate) struct Alarms(Arc<State>);

struct State {
    /// Counts time from here.
    epoch: Instant,
    look: Notify,
    /// Connections opened before this many microseconds after `epoch` are not lent again.
    evict_before: AtomicU64,
    /// Pieces of work that found no free connection in time.
    exhausted: AtomicU64,
    /// Work has ended since this was asked last. Not counted: all threads would write to one place for each
    /// piece of work.
    finished: AtomicBool,
    disk_full: AtomicBool,
    corrupted: AtomicBool,
    /// Why a connection could not be opened, until one could.
    refused: Mutex<Option<Reason>>,
    /// The server does not answer.
    unreachable: watch::Sender<bool>,
    /// The drivers of the pool's open connections.
    drivers: Mutex<Vec<(Weak<ConnectionState>, AbortHandle)>>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            epoch: Instant::now(),
            look: Notify::new(),
            evict_before: AtomicU64::new(0),
            exhausted: AtomicU64::new(0),
            finished: AtomicBool::new(false),
            disk_full: AtomicBool::new(false),
            corrupted: AtomicBool::new(false),
            refused: Mutex::new(None),
            unreachable: watch::Sender::new(false),
            drivers: Mutex::default(),
        }
    }
}

impl Alarms {
    /// An error that the database named.
    pub(crate) fn heard(&self, state: SqlState) {
        instruments::failed(state);
        match state {
            SqlState::READ_ONLY => self.evict(EVICTION_PAUSE),
            SqlState::DISK_FULL => self.0.disk_full.store(true, Relaxed),
            SqlState::DATA_CORRUPTED | SqlState::INDEX_CORRUPTED => {
                self.0.corrupted.store(true, Relaxed);
            }
            // Mostly the statement's fault; but if the user is gone, every statement will say so.
            SqlState::NOT_PERMITTED => {}
            state if state.is_disconnection() => {}
            _ => return,
        }
        self.0.look.notify_one();
    }

    /// No connection was free in time.
    pub(crate) fn exhausted(&self) {
        self.0.exhausted.fetch_add(1, Relaxed);
        self.0.look.notify_one();
    }

    /// A piece of work ended.
    pub(crate) fn finished(&self) {
        if !self.0.finished.load(Relaxed) {
            self.0.finished.store(true, Relaxed);
        }
    }

    /// A connection could not be opened.
    pub(crate) fn refused(&self, reason: Reason) {
        self.note_refusal(reason);
        self.0.look.notify_one();
    }

    /// The same for the monitor itself, without waking it.
    pub(crate) fn note_refusal(&self, reason: Reason) {
        *self.refusal_slot() = Some(reason);
    }

    /// No connection that is open now is lent again; `pause` after the last time, or this is left out.
    pub(crate) fn evict(&self, pause: Duration) {
        let now = self.now();
        let before = self.0.evict_before.load(Relaxed);
        if before == 0 || now.saturating_sub(before) >= pause.as_micros() as u64 {
            self.0.evict_before.store(now, Relaxed);
        }
    }

    /// Whether a connection that was opened at `instant` must not be lent again.
    pub(crate) fn is_evicted(&self, opened: Instant) -> bool {
        let opened = opened.saturating_duration_since(self.0.epoch).as_micros() as u64;
        opened < self.0.evict_before.load(Relaxed)
    }

    /// There is something to look at, though nothing went wrong.
    pub(crate) fn look(&self) {
        self.0.look.notify_one();
    }

    /// Waits for an alarm since the last call.
    pub(crate) async fn raised(&self) {
        self.0.look.notified().await;
    }

    pub(crate) fn exhausted_so_far(&self) -> u64 {
        self.0.exhausted.load(Relaxed)
    }

    /// Whether work has ended since this was asked last.
    pub(crate) fn has_finished(&self) -> bool {
        self.0.finished.swap(false, Relaxed)
    }

    pub(crate) fn is_disk_full(&self) -> bool {
        self.0.disk_full.load(Relaxed)
    }

    pub(crate) fn disk_has_space(&self) {
        self.0.disk_full.store(false, Relaxed);
    }

    /// Whether work has met damaged data. That does not mend itself: it stays so for this life of the actor.
    pub(crate) fn is_corrupted(&self) -> bool {
        self.0.corrupted.load(Relaxed)
    }

    pub(crate) fn refusal(&self) -> Option<Reason> {
        *self.refusal_slot()
    }

    pub(crate) fn connections_open(&self) {
        *self.refusal_slot() = None;
    }

    /// Says whether the server answers.
    pub(crate) fn set_unreachable(&self, unreachable: bool) {
        self.0.unreachable.send_replace(unreachable);
    }

    /// Waits until the server is known not to answer, which it may be already. Costs nothing until it is polled.
    pub(crate) async fn unreachable(&self) {
        let mut unreachable = self.0.unreachable.subscribe();
        // The sender lives as long as `self`.
        unreachable.wait_for(|unreachable| *unreachable).await.ok();
    }

    /// A connection of the pool's is open, and `driver` moves its bytes.
    pub(crate) fn drives(&self, connection_state: &Arc<ConnectionState>, driver: AbortHandle) {
        let mut drivers = self.drivers();
        drivers.retain(|(connection_state, _)| connection_state.strong_count() > 0);
        drivers.push((Arc::downgrade(connection_state), driver));
    }

    /// Ends every connection of the pool's: work that waits for an answer gets an error at once.
    pub(crate) fn cut_all(&self) {
        for (connection_state, driver) in self.drivers().drain(..) {
            if let Some(connection_state) = connection_state.upgrade() {
                connection_state.cut();
                driver.abort();
            }
        }
    }

    fn drivers(&self) -> MutexGuard<'_, Vec<(Weak<ConnectionState>, AbortHandle)>> {
        self.0
            .drivers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn refusal_slot(&self) -> MutexGuard<'_, Option<Reason>> {
        self.0
            .refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        self.0.epoch.elapsed().as_micros() as u64
    }
}

/// The last observation of one connection.
pub(crate) struct ConnectionState {
    last: AtomicU64,
    completed: AtomicU64,
    cut: AtomicBool,
    /// Work met an error since [`forget`](Self::forget), other than a row that is not there.
    failed: AtomicBool,
    /// One of those was a conflict with another transaction.
    conflict: AtomicBool,
    /// A statement under way may be executed even without an answer.
    irrevocable: AtomicBool,
    /// Calls that run on a thread of their own, even if their callers have gone.
    under_way: AtomicU64,
    opened: Instant,
    pulse: Pulse,
    alarms: Alarms,
    /// The file that the connection is open on. This state lives as long as the connection is open, also during an
    /// abandoned call.
    file: OnceLock<Hold>,
    /// Takes what the server notifies of, if the connection is one that listens.
    notified: Option<mpsc::Sender<String>>,
}

impl ConnectionState {
    pub(crate) fn new(alarms: &Alarms) -> Arc<Self> {
        Self::with_pulse(alarms, Pulse::new())
    }

    /// One on which what is heard is a beat of `pulse`.
    pub(crate) fn with_pulse(alarms: &Alarms, pulse: Pulse) -> Arc<Self> {
        Arc::new(Self::made(alarms, pulse, None))
    }

    /// One of a connection that listens, which nothing but `notified` depends on.
    pub(crate) fn listening(notified: mpsc::Sender<String>) -> Arc<Self> {
        let alarms = Alarms::default();
        Arc::new(Self::made(&alarms, Pulse::new(), Some(notified)))
    }

    fn made(alarms: &Alarms, pulse: Pulse, notified: Option<mpsc::Sender<String>>) -> Self {
        Self {
            last: AtomicU64::new(0),
            completed: AtomicU64::new(0),
            cut: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            conflict: AtomicBool::new(false),
            irrevocable: AtomicBool::new(false),
            under_way: AtomicU64::new(0),
            opened: Instant::now(),
            pulse,
            alarms: alarms.clone(),
            file: OnceLock::new(),
            notified,
        }
    }

    /// Takes what the server notifies of, if the connection is one that listens.
    pub(crate) fn notified(&self) -> Option<&mpsc::Sender<String>> {
        self.notified.as_ref()
    }

    /// The connection is open on a file.
    pub(crate) fn set_file(&self, hold: Hold) {
        // Once for each connection, so there is none yet.
        self.file.set(hold).ok();
    }

    pub(crate) fn file(&self) -> Option<&Hold> {
        self.file.get()
    }

    pub(crate) fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// The database named an error.
    pub(crate) fn heard(&self, state: SqlState) {
        self.last.store(state.pack(), Relaxed);
        self.alarms.heard(state);
    }

    /// The database has done a statement.
    pub(crate) fn completed(&self) {
        self.completed.fetch_add(1, Relaxed);
    }

    /// It has ended against our will.
    pub(crate) fn cut(&self) {
        if !self.cut.swap(true, Relaxed) {
            self.alarms.heard(SqlState::CONNECTION_FAILURE);
        }
    }

    /// The last error since [`forget`](Self::forget).
    pub(crate) fn last(&self) -> Option<SqlState> {
        SqlState::unpack(self.last.load(Relaxed))
    }

    /// Statements done since [`forget`](Self::forget).
    pub(crate) fn statements_done(&self) -> u64 {
        self.completed.load(Relaxed)
    }

    pub(crate) fn forget(&self) {
        self.last.store(0, Relaxed);
        self.completed.store(0, Relaxed);
        self.failed.store(false, Relaxed);
        self.conflict.store(false, Relaxed);
        self.irrevocable.store(false, Relaxed);
    }

    /// From now on no rollback undoes what is sent.
    pub(crate) fn set_irrevocable(&self) {
        self.irrevocable.store(true, Relaxed);
    }

    /// Whether work on a connection that ends now may have been carried out.
    pub(crate) fn may_be_carried_out(&self) -> bool {
        self.irrevocable.load(Relaxed)
    }

    pub(crate) fn note_failure(&self) {
        self.failed.store(true, Relaxed);
    }

    pub(crate) fn note_conflict(&self) {
        self.conflict.store(true, Relaxed);
    }

    /// Whether the database gave work an error since [`forget`](Self::forget).
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Relaxed) || self.last().is_some() || self.is_cut()
    }

    /// Whether work met a conflict with another transaction since [`forget`](Self::forget), regardless of the work's
    /// result: also one that was never classified because the work did not use `on!`.
    pub(crate) fn met_conflict(&self) -> bool {
        self.conflict.load(Relaxed) || self.last().is_some_and(SqlState::is_conflict)
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Relaxed)
    }

    /// A call has begun; it lasts until what is given back is dropped.
    pub(crate) fn call(self: &Arc<Self>) -> Call {
        self.under_way.fetch_add(1, Relaxed);
        Call(Arc::clone(self))
    }

    /// Whether it may be lent again.
    pub(crate) fn is_fit(&self) -> bool {
        !self.is_cut() && !self.alarms.is_evicted(self.opened) && self.under_way.load(Relaxed) == 0
    }
}

/// A call on a connection, while it lives.
pub(crate) struct Call(Arc<ConnectionState>);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_error_of_a_statement_raises_no_alarm_and_read_only_evicts_open_connections() {
        let alarms = Alarms::default();
        tokio::time::sleep(Duration::from_millis(2)).await;
        let connection_state = ConnectionState::new(&alarms);
        connection_state.heard(SqlState::DEADLOCK);
        let silence = tokio::time::timeout(Duration::from_millis(10), alarms.raised());
        assert!(silence.await.is_err());
        assert!(connection_state.is_fit());
        tokio::time::sleep(Duration::from_millis(2)).await;
        connection_state.heard(SqlState::READ_ONLY);
        alarms.raised().await;
        assert!(!connection_state.is_fit());
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert!(ConnectionState::new(&alarms).is_fit());
    }
}
