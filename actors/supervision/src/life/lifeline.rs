//! How one life of an actor speaks to its supervisor.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use actix::Addr;

use super::{
    cell::Cell,
    wire::{Notice, Signal, Slot, Status, Withdrawn},
};
use crate::{Published, Reason, supervisor::SupervisorActor};

/// The data of a serving component for its dependents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Serving {
    /// Children that follow [`OnChange`](crate::Follow::OnChange) are restarted when this differs.
    pub version: u64,
    /// The source of the component, one word for probes and logs ("environment", "sqlite").
    pub source: Option<&'static str>,
}

impl Serving {
    /// Serving from `source`, at version 0.
    #[must_use]
    pub const fn from(source: &'static str) -> Self {
        Self {
            version: 0,
            source: Some(source),
        }
    }

    /// The same at another version.
    #[must_use]
    pub const fn version(self, version: u64) -> Self {
        Self { version, ..self }
    }
}

/// Given to each life by its supervisor. Clones speak for the same life; what a former life says is
/// not heard.
#[derive(Clone)]
pub struct Lifeline(Arc<Life>);

pub(crate) struct Life {
    child: usize,
    generation: u64,
    cell: Arc<Cell>,
    slots: Arc<[Arc<dyn Slot>]>,
    supervisor: Addr<SupervisorActor>,
    recovers_from: Option<Reason>,
    /// Locked before the cell's gate, where both are.
    reported: Mutex<Reported>,
    /// Asked to end in good order; written and read under the cell's gate.
    retired: AtomicBool,
    /// Values removed from its slots by another thread or by the panic hook, to be dropped on its own thread.
    withdrawn: Mutex<Vec<Withdrawn>>,
}

/// The last status of a life, so that reporting the same again costs nothing, and an actor that
/// changes its mind all the time has no more than one signal under way.
#[derive(Default)]
struct Reported {
    last: Option<Status>,
    /// Whether it has been serving at any time, even if the supervisor has not seen that status.
    has_served: bool,
    announced: bool,
    /// Whether the child has reported anything itself.
    by_itself: bool,
}

impl Lifeline {
    pub(crate) fn new(
        child: usize,
        generation: u64,
        cell: Arc<Cell>,
        slots: Arc<[Arc<dyn Slot>]>,
        supervisor: Addr<SupervisorActor>,
        recovers_from: Option<Reason>,
    ) -> Self {
        Self(Arc::new(Life {
            child,
            generation,
            cell,
            slots,
            supervisor,
            recovers_from,
            reported: Mutex::default(),
            retired: AtomicBool::new(false),
            withdrawn: Mutex::default(),
        }))
    }

    /// The child's name in the tree.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.0.cell.name
    }

    /// The number of this life, counted from 1.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0.generation
    }

    /// How long callers wait for an answer. One that comes later counts as none, and several in a row as a hang.
    #[must_use]
    pub fn call_timeout(&self) -> Duration {
        self.0.cell.policy.call_timeout
    }

    /// Whether this life still counts. Ask before an effect that must not come from a former life,
    /// such as a write that a successor may have taken over.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.0.cell.is_current(self.0.generation)
    }

    /// The fault that ended the former life, if the child has not served since.
    pub(crate) fn recovers_from(&self) -> Option<Reason> {
        self.0.recovers_from
    }

    /// Able to do its work. Say it again with another [`version`](Serving::version) when what
    /// dependents took has changed.
    pub fn ready(&self, serving: Serving) {
        self.report(Status::Ready(serving), true);
    }

    /// Does its work, with a handicap that operators should know.
    pub fn degraded(&self, reason: Reason, serving: Serving) {
        self.report(Status::Degraded(reason, serving), true);
    }

    /// Alive but unable to do its work, and trying again by itself. Never counted as a fault: new
    /// callers are refused, published offers withdrawn, those under way go on.
    pub fn unavailable(&self, reason: Reason) {
        self.report(Status::Unavailable(reason), true);
    }

    /// Gives this life up: something beyond this process failed it. Callers are refused at once, and a
    /// fresh life is started after the longest backoff; it does not count towards escalation. `error` goes
    /// to the log only.
    pub fn fail(&self, reason: Reason, error: impl fmt::Display) {
        self.end(Notice::GaveUp(reason, error.to_string()));
    }

    /// Gives this life up as [`fail`](Self::fail) does, for something that no retry can mend, such as a
    /// damaged file. If the child has never served, the supervisor escalates at once instead of trying on.
    pub fn cannot_start(&self, reason: Reason, error: impl fmt::Display) {
        self.end(Notice::CannotStart(reason, error.to_string()));
    }

    /// Offers `value` to the readers of `slot`. No effect once this life is over.
    ///
    /// The slot must be named in [`ChildSpec::publishes`](crate::ChildSpec::publishes), or it would
    /// outlive the actor.
    pub fn publish<T>(&self, slot: &Published<T>, value: Arc<T>) {
        let gate = self.0.cell.gate();
        // Whichever of the two is not offered is dropped after the gate: its `Drop` may do anything.
        let _dropped = if self.may_report() {
            slot.swap(Some(value))
        } else {
            Some(value)
        };
        drop(gate);
    }

    /// Reports `status` for a child that has reported nothing itself so far.
    pub(crate) fn report_by_default(&self, status: Status) {
        self.report(status, false);
    }

    /// Callers see the status at once; the supervisor gets a signal only if it is new.
    fn report(&self, status: Status, by_itself: bool) {
        let mut withdrawn = Vec::new();
        let mut reported = self.reported();
        if reported.by_itself && !by_itself {
            return;
        }
        reported.by_itself = by_itself;
        {
            let _gate = self.0.cell.gate();
            if !self.may_report() || reported.last == Some(status) {
                return;
            }
            for slot in self.0.slots.iter() {
                match status.serving() {
                    Some(_) => slot.open(self.generation()),
                    None => withdrawn.extend(slot.close()),
                }
            }
        }
        reported.last = Some(status);
        reported.has_served |= status.serving().is_some();
        if !std::mem::replace(&mut reported.announced, true) {
            self.signal(Notice::StatusChanged);
        }
        // Before `withdrawn` is dropped, which may speak.
        drop(reported);
    }

    fn reported(&self) -> MutexGuard<'_, Reported> {
        self.0
            .reported
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether callers still follow what this life says. To be asked under the gate.
    fn may_report(&self) -> bool {
        self.is_current() && !self.0.retired.load(Relaxed)
    }

    /// The last status, for the supervisor, and whether this life has served so far; the next one is announced to it again.
    pub(crate) fn latest_status(&self) -> Option<(Status, bool)> {
        let mut reported = self.reported();
        reported.announced = false;
        reported.last.map(|status| (status, reported.has_served))
    }

    /// Makes the actor known to callers by `begin`, unless its life is over before it began: a factory
    /// that returns too late must neither run nor take its successor's place.
    pub(crate) fn enter(&self, begin: impl FnOnce()) -> bool {
        let reported = self.reported();
        let _gate = self.0.cell.gate();
        if !self.is_current() {
            return false;
        }
        begin();
        // It may have spoken already, inside its factory, when there was nothing to open yet.
        if self.may_report() && reported.last.and_then(Status::serving).is_some() {
            let generation = self.generation();
            self.0.slots.iter().for_each(|slot| slot.open(generation));
        }
        true
    }

    /// Refuses new callers for the rest of this life; those under way may still be answered.
    pub(crate) fn retire(&self) {
        let _gate = self.0.cell.gate();
        self.0.retired.store(true, Relaxed);
        if self.is_current() {
            self.keep_withdrawn(self.0.slots.iter().filter_map(|slot| slot.close()));
        }
    }

    /// Ends what callers see of this life at once. Says whether it was the first to do so.
    pub(crate) fn revoke(&self) -> bool {
        let _gate = self.0.cell.gate();
        let current = self.is_current();
        if current {
            self.0.cell.end_life();
            self.keep_withdrawn(self.0.slots.iter().filter_map(|slot| slot.revoke()));
        }
        current
    }

    /// Ends this life for callers now, and for the supervisor as soon as it hears of it. Only the first
    /// end of a life is signalled.
    pub(crate) fn end(&self, notice: Notice) {
        if self.revoke() {
            self.signal(notice);
        }
    }

    fn keep_withdrawn(&self, values: impl Iterator<Item = Withdrawn>) {
        let mut withdrawn = self
            .0
            .withdrawn
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        withdrawn.extend(values);
    }

    /// Values removed from its slots that are still to be dropped.
    pub(crate) fn take_withdrawn(&self) -> Vec<Withdrawn> {
        let mut withdrawn = self
            .0
            .withdrawn
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut withdrawn)
    }

    pub(crate) fn signal(&self, notice: Notice) {
        let signal = Signal {
            child: self.0.child,
            generation: self.0.generation,
            notice,
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "the supervisor outlives its children; once it is gone the process is on its way out"
        )]
        self.0.supervisor.do_send(signal);
    }

    pub(crate) fn cell(&self) -> &Arc<Cell> {
        &self.0.cell
    }
}

impl fmt::Debug for Lifeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifeline")
            .field("name", &self.name())
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}
