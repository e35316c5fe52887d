//! The supervisor's publications: the board, the events, the log, the report of a stop.

use std::{sync::Arc, time::SystemTime};

use tracing::{debug, error, info, warn};

use super::{SupervisorActor, child::Child};
use crate::{Board, Component, Event, NotReady, Readiness, Reason, State, StopReport};

impl SupervisorActor {
    /// Publishes what has changed since the last time.
    pub(crate) fn report(&mut self) {
        for index in 0..self.children.len() {
            self.report_child(index);
        }
        self.publish_board();
        self.report_halt();
    }

    fn report_child(&mut self, index: usize) {
        let (needs_met, halting) = (self.needs_met(index), self.halting);
        let child = &mut self.children[index];
        let (state, reason) = child.state(needs_met, halting);
        let cause = child.unreported_end.take();
        if (state, reason) == child.shown && cause.is_none() {
            return;
        }
        let at = SystemTime::now();
        if state != child.shown.0 {
            child.since = at;
        }
        child.shown = (state, reason);
        // The cause of a restart has been logged with more detail than the state has.
        if cause.is_none() && state != State::Restarting {
            log_state(child);
        }
        let event = Event {
            at,
            component: child.name(),
            generation: child.generation,
            state,
            reason,
            cause,
        };
        // Without a listener it goes nowhere, and need not.
        self.events.send(event).ok();
    }

    fn publish_board(&mut self) {
        let former = self.shared.board.load_full();
        let components: Vec<Component> = self.children.iter().map(Child::component).collect();
        let readiness = self.readiness(&former, &components);
        let started = former.started || readiness.serves();
        let board = Board {
            serial: former.serial,
            readiness,
            started,
            components,
            leaked_threads: self.leaked.len(),
        };
        if board == *former {
            return;
        }
        let down = Downtime::of(&board);
        if readiness != former.readiness || down > self.logged_downtime {
            log_readiness(&board, down);
            self.logged_downtime = down;
        }
        if started && let Some(startup) = self.startup.take() {
            // A span that was entered ends when it was last left: so leave it once more, now.
            startup.in_scope(|| ());
        }
        let serial = former.serial + 1;
        self.shared.board.store(Arc::new(Board { serial, ..board }));
        self.boards.send_replace(serial);
    }

    /// Before the first time, every component must have reported; from then on the required ones count.
    /// One that has stopped although the whole has not is one that has finished: it is not waited for.
    fn readiness(&self, former: &Board, components: &[Component]) -> Readiness {
        let required_serve = components
            .iter()
            .filter(|component| component.required)
            .all(|component| component.state.serves() || component.state == State::Stopped);
        let all_settled = (0..self.children.len()).all(|index| self.has_settled(index));
        if self.draining {
            Readiness::NotReady(NotReady::Draining)
        } else if !(former.started || required_serve && all_settled) {
            Readiness::NotReady(NotReady::Starting)
        } else if !required_serve {
            Readiness::NotReady(NotReady::ComponentDown)
        } else if components
            .iter()
            .all(|component| matches!(component.state, State::Ready | State::Stopped))
        {
            Readiness::Ready
        } else {
            Readiness::Degraded
        }
    }

    fn report_halt(&mut self) {
        if self.halting && !self.children.iter().any(Child::is_running) {
            self.halt_span = None;
            for waiting in self.waiting_for_halt.drain(..) {
                // The request may have been dropped.
                waiting
                    .send(StopReport {
                        children: self.stopped.clone(),
                    })
                    .ok();
            }
        }
    }
}

fn log_state(child: &Child) {
    let (state, reason) = child.shown;
    let kind = child.kind();
    let (name, generation, reason) = (
        child.name(),
        child.generation,
        reason.map(crate::Reason::as_str),
    );
    let source = child.source;
    match state {
        State::Degraded | State::Unavailable => {
            warn!(
                actor.name = name,
                actor.generation = generation,
                reason,
                source,
                "{kind} `{name}` is {state}"
            );
        }
        State::Ready => info!(
            actor.name = name,
            actor.generation = generation,
            source,
            "{kind} `{name}` is ready"
        ),
        // That it has failed permanently was said when it was given up, with the cause.
        _ => debug!(
            actor.name = name,
            actor.generation = generation,
            reason,
            "{kind} `{name}` is {state}"
        ),
    }
}

/// Reasons of the whole for not being ready, from planned to unplanned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Downtime {
    /// Nothing.
    #[default]
    No,
    /// Restarts that were asked for, and those that follow from them.
    Planned,
    /// Anything else.
    Unplanned,
}

impl Downtime {
    fn of(board: &Board) -> Self {
        if board.readiness != Readiness::NotReady(NotReady::ComponentDown) {
            return Self::No;
        }
        let is_planned = |component: &Component| {
            let reason = component.reason;
            component.state.serves()
                || component.state == State::Stopped
                || reason == Some(Reason::REQUESTED)
                || reason == Some(Reason::DEPENDENCY)
                || reason == Some(Reason::DEPENDENCY_CHANGED)
        };
        if board.components.iter().all(is_planned) {
            Self::Planned
        } else {
            Self::Unplanned
        }
    }
}

fn log_readiness(board: &Board, down: Downtime) {
    let is_away = |component: &&Component| component.state != State::Ready;
    let away: Vec<&str> = board
        .components
        .iter()
        .filter(is_away)
        .map(|component| component.name)
        .collect();
    match board.readiness {
        Readiness::Ready => info!("ready"),
        Readiness::Degraded => warn!(components = away.join(","), "ready, but degraded"),
        Readiness::NotReady(reason @ NotReady::ComponentDown) => {
            let (reason, components) = (reason.as_str(), away.join(","));
            match down {
                Downtime::Unplanned => error!(reason, components, "not ready"),
                Downtime::No | Downtime::Planned => {
                    info!(reason, components, "not ready during a planned restart");
                }
            }
        }
        Readiness::NotReady(reason) => info!(reason = reason.as_str(), "not ready"),
    }
}
