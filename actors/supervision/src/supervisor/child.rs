//! One child as its supervisor sees it: which life it is in, what it last reported, what it waits for.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tracing::Span;

use crate::{
    Cause, Component, Exhausted, Follow, Lifeline, Need, Reason, Restart, Serving, State,
    life::{
        Incarnate, Incarnation,
        cell::Cell,
        wire::{Slot, Status},
    },
    policy::RestartWindow,
    tree::Rules,
};

/// Where a child is in its life.
pub(crate) enum Phase {
    /// No thread.
    Off,
    /// Begun, without a status so far.
    Starting { life: Life, deadline: Instant },
    /// Has reported its status.
    Up { life: Life, since: Instant },
    /// On its way out.
    Stopping {
        life: Life,
        deadline: Instant,
        forced: bool,
    },
}

/// A running life with the ways to it.
pub(crate) struct Life {
    pub(crate) lifeline: Lifeline,
    pub(crate) incarnation: Box<dyn Incarnation>,
    pub(crate) asked_at: Option<Instant>,
}

/// Why a child gets no further life, unless an operator asks for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conclusion {
    /// It ended as it should.
    Finished,
    /// It was given up.
    Failed,
}

/// One child of a supervisor.
pub(crate) struct Child {
    pub(crate) incarnate: Box<dyn Incarnate>,
    pub(crate) cell: Arc<Cell>,
    pub(crate) slots: Arc<[Arc<dyn Slot>]>,
    pub(crate) needs: Vec<Need>,
    pub(crate) required: bool,
    pub(crate) essential: bool,
    pub(crate) restart: Restart,
    pub(crate) exhausted: Exhausted,

    pub(crate) phase: Phase,
    /// When the next life may begin.
    pub(crate) not_before: Instant,
    pub(crate) generation: u64,
    /// The current life's last status.
    pub(crate) status: Option<Status>,
    /// Versions of what it needs, as they were when the current life began.
    pub(crate) taken: Vec<Option<u64>>,
    /// Why it must be restarted, although it is healthy.
    pub(crate) bounce: Option<Cause>,
    /// The reason to show for the end of the former life.
    pub(crate) ended_by: Option<Reason>,
    /// The cause of the end of a life, until the event that reports it.
    pub(crate) unreported_end: Option<Cause>,
    /// Whether any life has reported a status or ended.
    pub(crate) settled: bool,
    /// Whether any life has served.
    pub(crate) served: bool,
    pub(crate) concluded: Option<Conclusion>,
    /// The fault after which it has not served yet.
    pub(crate) recovers_from: Option<Reason>,
    pub(crate) window: RestartWindow,
    /// Restarts since it was last stable.
    pub(crate) attempt: u32,
    /// Runs in a row that returned an error.
    pub(crate) failed_runs: u32,
    pub(crate) first_begun: Option<Instant>,
    /// The tracing span of its start, until its first status.
    pub(crate) start_span: Option<Span>,
    /// The tracing span of its stop, until it is gone.
    pub(crate) stop_span: Option<Span>,
    /// Its source, as last reported.
    pub(crate) source: Option<&'static str>,
    /// Its state on the board, and the time of its begin.
    pub(crate) shown: (State, Option<Reason>),
    pub(crate) since: SystemTime,
    /// How long its orderly stop took, and whether its thread had to be given up.
    pub(crate) stopped: Option<(Duration, bool)>,
}

impl Child {
    pub(crate) fn new(incarnate: Box<dyn Incarnate>, cell: Arc<Cell>, rules: Rules) -> Self {
        Self {
            incarnate,
            cell,
            slots: rules.slots.into(),
            needs: rules.needs,
            required: rules.required,
            essential: rules.essential,
            restart: rules.restart,
            exhausted: rules.exhausted,
            phase: Phase::Off,
            not_before: Instant::now(),
            generation: 0,
            status: None,
            taken: Vec::new(),
            bounce: None,
            ended_by: None,
            unreported_end: None,
            settled: false,
            served: false,
            concluded: None,
            recovers_from: None,
            window: RestartWindow::default(),
            attempt: 0,
            failed_runs: 0,
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

    /// "actor" or "worker".
    pub(crate) fn kind(&self) -> &'static str {
        self.incarnate.kind()
    }

    /// Whether it was given up.
    pub(crate) fn has_failed(&self) -> bool {
        self.concluded == Some(Conclusion::Failed)
    }

    /// Whether its work is done.
    pub(crate) fn has_finished(&self) -> bool {
        self.concluded == Some(Conclusion::Finished)
    }

    /// Whether a life of it has a thread that was not given up.
    pub(crate) fn is_running(&self) -> bool {
        !matches!(self.phase, Phase::Off)
    }

    /// Whether it could be stopped: begun, and not on its way out.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Starting { .. } | Phase::Up { .. })
    }

    /// The data that it serves, if any.
    pub(crate) fn serving(&self) -> Option<Serving> {
        match (&self.phase, self.status) {
            (Phase::Up { .. }, Some(status)) => status.serving(),
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

    fn incarnation(&self) -> Option<&dyn Incarnation> {
        match &self.phase {
            Phase::Off => None,
            Phase::Starting { life, .. }
            | Phase::Up { life, .. }
            | Phase::Stopping { life, .. } => Some(&*life.incarnation),
        }
    }

    /// Looks after the threads that its life shares with others; says whether it has to move to others.
    pub(crate) fn look_after_threads(&self) -> bool {
        self.incarnation().is_some_and(|incarnation| {
            incarnation.look_after_threads();
            self.is_live() && incarnation.must_move()
        })
    }

    /// The fault of a life without progress, if any.
    pub(crate) fn hang(&self) -> Option<String> {
        self.incarnation()
            .filter(|_| self.is_live())
            .and_then(Incarnation::hang)
    }

    /// Moves every deadline by the time for which the supervisor stood still: what happened meanwhile,
    /// or did not, counts against no child.
    pub(crate) fn extend_deadlines(&mut self, stood_still: Duration) {
        if let Some(incarnation) = self.incarnation() {
            incarnation.extend_deadlines(stood_still);
        }
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

    /// Forgets that it has finished or failed, and how often.
    pub(crate) fn begin_again(&mut self) {
        self.concluded = None;
        self.window = RestartWindow::default();
        self.attempt = 0;
        self.failed_runs = 0;
        self.not_before = Instant::now();
        self.ended_by = Some(Reason::REQUESTED);
        self.unreported_end = Some(Cause::Requested);
        self.recovers_from = None;
        self.cell.count_restart(Cause::Requested);
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
            Phase::Off => self.concluded.is_none().then_some(self.not_before),
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
        match self.concluded {
            Some(Conclusion::Failed) => return (State::Failed, self.ended_by),
            Some(Conclusion::Finished) if self.is_running() => {
                return (State::Stopping, self.ended_by);
            }
            Some(Conclusion::Finished) => return (State::Stopped, self.ended_by),
            None => {}
        }
        match (&self.phase, self.status) {
            (Phase::Off, _) if halting => (State::Stopped, Some(Reason::SHUTDOWN)),
            (Phase::Stopping { .. }, _) if halting => (State::Stopping, Some(Reason::SHUTDOWN)),
            (Phase::Off, _) if !needs_met => (State::Waiting, Some(Reason::DEPENDENCY)),
            (Phase::Up { .. }, Some(Status::Ready(_))) => (State::Ready, None),
            (Phase::Up { .. }, Some(Status::Degraded(reason, _))) => {
                (State::Degraded, Some(reason))
            }
            (Phase::Up { .. }, Some(Status::Unavailable(reason))) if self.served => {
                (State::Unavailable, Some(reason))
            }
            (Phase::Up { .. }, Some(Status::Unavailable(reason) | Status::Recovering(reason))) => {
                coming(Some(reason))
            }
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
