//! How one life of an actor speaks to its supervisor.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use actix::Addr;

use super::{
    Published, Reason,
    cell::Cell,
    supervisor::SupervisorActor,
    wire::{Notice, Signal, Slot, Word},
};

/// What dependents take from a component that serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Serving {
    /// Children that follow [`OnChange`](super::Follow::OnChange) are restarted when this differs.
    pub version: u64,
    /// What the component draws on, one word for probes and logs ("environment", "sqlite").
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
    /// The last word, so that saying the same again costs nobody anything.
    said: Mutex<Option<Word>>,
}

impl Lifeline {
    pub(crate) fn new(
        child: usize,
        generation: u64,
        cell: Arc<Cell>,
        slots: Arc<[Arc<dyn Slot>]>,
        supervisor: Addr<SupervisorActor>,
    ) -> Self {
        Self(Arc::new(Life {
            child,
            generation,
            cell,
            slots,
            supervisor,
            said: Mutex::new(None),
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

    /// Whether this life still counts. Ask before an effect that must not come from a former life,
    /// such as a write that a successor may have taken over.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.0.cell.is_current(self.0.generation)
    }

    /// Able to do its work. Say it again with another [`version`](Serving::version) when what
    /// dependents took has changed.
    pub fn ready(&self, serving: Serving) {
        self.say(Word::Ready(serving));
    }

    /// Does its work, with a handicap that operators should know.
    pub fn degraded(&self, reason: Reason, serving: Serving) {
        self.say(Word::Degraded(reason, serving));
    }

    /// Alive but unable to do its work, and trying again by itself. Never counted as a fault: new
    /// callers are refused, published offers withdrawn, those under way go on.
    pub fn unavailable(&self, reason: Reason) {
        self.say(Word::Unavailable(reason));
    }

    /// Gives this life up: something beyond this process failed it. A fresh one is started after the
    /// longest backoff; it does not count towards escalation. `error` goes to the log only.
    pub fn fail(&self, reason: Reason, error: impl fmt::Display) {
        self.signal(Notice::GaveUp(reason, error.to_string()));
    }

    /// Gives this life up as [`fail`](Self::fail) does, for something that no retry can mend, such as a
    /// damaged file. If the child has never served, the supervisor escalates at once instead of trying on.
    pub fn cannot_start(&self, reason: Reason, error: impl fmt::Display) {
        self.signal(Notice::CannotStart(reason, error.to_string()));
    }

    /// Offers `value` to whoever reads `slot`. No effect once this life is over.
    ///
    /// The slot must be named in [`ChildSpec::publishes`](super::ChildSpec::publishes), or it would
    /// outlive the actor.
    pub fn publish<T>(&self, slot: &Published<T>, value: Arc<T>) {
        let _gate = self.0.cell.gate();
        if self.is_current() {
            slot.set(Some(value));
        }
    }

    /// What callers see follows the word at once; the supervisor hears of it only if it is new.
    fn say(&self, word: Word) {
        let mut said = self.0.said.lock().unwrap_or_else(PoisonError::into_inner);
        let _gate = self.0.cell.gate();
        if !self.is_current() || said.replace(word) == Some(word) {
            return;
        }
        for slot in self.0.slots.iter() {
            match word {
                Word::Ready(_) | Word::Degraded(..) => slot.open(self.generation()),
                Word::Unavailable(_) => slot.close(),
            }
        }
        self.signal(Notice::Word(word));
    }

    /// Ends what callers see of this life at once, before the supervisor has heard of it.
    pub(crate) fn revoke(&self) {
        let _gate = self.0.cell.gate();
        if self.is_current() {
            self.0.cell.end_life();
            self.0.slots.iter().for_each(|slot| slot.revoke());
        }
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
