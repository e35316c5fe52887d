//! One child as its supervisor sees it: which life it is in, what it last said, what it waits for.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tracing::Span;

use crate::{
    Cause, Component, Follow, Lifeline, Need, Reason, Serving, State,
    actor::incarnation::{Incarnate, Incarnation},
    life::{
        cell::Cell,
        wire::{Slot, Word},
    },
    policy::RestartWindow,
};

/// Where a child is in its life.
pub(crate) enum Phase {
    /// No thread.
    Off,
    /// Begun, and silent so far.
    Starting { life: Life, deadline: Instant },
    /// Has said how it is.
    Up { life: Life, since: Instant },
    /// On its way out.
    Stopping {
        life: Life,
        deadline: Instant,
        forced: bool,
    },
}

/// A running life with its way to speak and to be stopped.
pub(crate) struct Life {
    pub(crate) lifeline: Lifeline,
    pub(crate) incarnation: Incarnation,
    pub(crate) asked_at: Option<Instant>,
}

/// One child of a supervisor.
pub(crate) struct Child {
    pub(crate) incarnate: Box<dyn Incarnate>,
    pub(crate) cell: Arc<Cell>,
    pub(crate) slots: Arc<[Arc<dyn Slot>]>,
    pub(crate) needs: Vec<Need>,
    pub(crate) required: bool,
    pub(crate) essential: bool,

    pub(crate) phase: Phase,
    /// When the next life may begin.
    pub(crate) not_before: Instant,
    pub(crate) generation: u64,
    /// The current life's last word.
    pub(crate) word: Option<Word>,
    /// Versions of what it needs, as they were when the current life began.
    pub(crate) taken: Vec<Option<u64>>,
    /// Why it must be stopped and begun anew, although it is well.
    pub(crate) bounce: Option<Cause>,
    /// The reason to show for the end of the former life.
    pub(crate) ended_by: Option<Reason>,
    /// What ended a life, until the event that says so.
    pub(crate) untold_end: Option<Cause>,
    /// Whether any life has said a word or ended.
    pub(crate) settled: bool,
    /// Whether any life has served.
    pub(crate) served: bool,
    pub(crate) given_up: bool,
    pub(crate) window: RestartWindow,
    /// Restarts since it was last stable.
    pub(crate) attempt: u32,
    pub(crate) first_begun: Option<Instant>,
    /// The tracing span of its start, until its first word.
    pub(crate) start_span: Option<Span>,
    /// The tracing span of its stop, until it is gone.
    pub(crate) stop_span: Option<Span>,
    /// What it draws on, as last told.
    pub(crate) source: Option<&'static str>,
    /// What the board shows of it, and since when.
    pub(crate) shown: (State, Option<Reason>),
    pub(crate) since: SystemTime,
    /// How long its orderly stop took, and whether its thread had to be given up.
    pub(crate) stopped: Option<(Duration, bool)>,
}

impl Child {
    pub(crate) fn new(
        incarnate: Box<dyn Incarnate>,
        cell: Arc<Cell>,
        slots: Arc<[Arc<dyn Slot>]>,
        needs: Vec<Need>,
        required: bool,
        essential: bool,
    ) -> Self {
        Self {
            incarnate,
            cell,
            slots,
            needs,
            required,
            essential,
            phase: Phase::Off,
            not_before: Instant::now(),
            generation: 0,
            word: None,
            taken: Vec::new(),
            bounce: None,
            ended_by: None,
            untold_end: None,
            settled: false,
            served: false,
            given_up: false,
            window: RestartWindow::default(),
            attempt: 0,
            first_begun: None,
            start_span: None,
            stop_span: None,
            source: None,
            shown: (State::Waiting, None),
            since: SystemTime::now(),
            stopped: None,
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.cell.name
    }

    /// Whether a life of it has a thread that was not given up.
    pub(crate) fn is_running(&self) -> bool {
        !matches!(self.phase, Phase::Off)
    }

    /// Whether it could be stopped: begun, and not on its way out.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Starting { .. } | Phase::Up { .. })
    }

    /// What it serves, if it does.
    pub(crate) fn serving(&self) -> Option<Serving> {
        match (&self.phase, self.word) {
            (Phase::Up { .. }, Some(word)) => word.serving(),
            _ => None,
        }
    }

    /// How to reach its life, if it has one.
    pub(crate) fn lifeline(&self) -> Option<&Lifeline> {
        match &self.phase {
            Phase::Off => None,
            Phase::Starting { life, .. }
            | Phase::Up { life, .. }
            | Phase::Stopping { life, .. } => Some(&life.lifeline),
        }
    }

    /// Moves every deadline by the time for which the supervisor stood still: what happened meanwhile,
    /// or did not, is held against nobody.
    pub(crate) fn pardon(&mut self, stood_still: Duration) {
        self.cell.note_progress();
        if let Phase::Starting { deadline, .. } | Phase::Stopping { deadline, .. } = &mut self.phase
        {
            *deadline += stood_still;
        }
        if let Some(begun) = &mut self.first_begun {
            *begun += stood_still;
        }
    }

    /// Whether it needs child `index` in one of the ways that `follow` accepts.
    pub(crate) fn needs_child(&self, index: usize, follow: impl Fn(Follow) -> bool) -> bool {
        self.needs
            .iter()
            .any(|need| need.child == index && follow(need.follow))
    }

    /// A life that a fault is ending already belongs in the report of a stop as well.
    pub(crate) fn ask_ended(&mut self) {
        if let Phase::Stopping { life, .. } = &mut self.phase {
            life.asked_at.get_or_insert_with(Instant::now);
        }
    }

    /// Takes the life out, leaving the child off.
    pub(crate) fn take_life(&mut self) -> Option<Life> {
        match std::mem::replace(&mut self.phase, Phase::Off) {
            Phase::Off => None,
            Phase::Starting { life, .. }
            | Phase::Up { life, .. }
            | Phase::Stopping { life, .. } => Some(life),
        }
    }

    /// When something is to be done for it next, events aside.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Off => (!self.given_up).then_some(self.not_before),
            Phase::Starting { deadline, .. } | Phase::Stopping { deadline, .. } => Some(deadline),
            Phase::Up { .. } => None,
        }
    }

    /// The state to show, and why.
    pub(crate) fn state(&self, needs_met: bool, halting: bool) -> (State, Option<Reason>) {
        let coming = |reason: Option<Reason>| {
            let state = if self.served {
                State::Restarting
            } else {
                State::Starting
            };
            (state, reason.or(Some(Reason::STARTING)))
        };
        if self.given_up {
            return (State::Failed, self.ended_by);
        }
        match (&self.phase, self.word) {
            (Phase::Off, _) if halting => (State::Stopped, Some(Reason::SHUTDOWN)),
            (Phase::Stopping { .. }, _) if halting => (State::Stopping, Some(Reason::SHUTDOWN)),
            (Phase::Off, _) if !needs_met => (State::Waiting, Some(Reason::DEPENDENCY)),
            (Phase::Up { .. }, Some(Word::Ready(_))) => (State::Ready, None),
            (Phase::Up { .. }, Some(Word::Degraded(reason, _))) => (State::Degraded, Some(reason)),
            (Phase::Up { .. }, Some(Word::Unavailable(reason))) => coming(Some(reason)),
            _ => coming(self.ended_by),
        }
    }

    pub(crate) fn component(&self) -> Component {
        let (state, reason) = self.shown;
        Component {
            name: self.name(),
            state,
            required: self.required,
            since: self.since,
            restarts: self.generation.saturating_sub(1),
            generation: self.generation,
            reason,
            source: self.source,
        }
    }
}
