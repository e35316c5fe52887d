//! The supervisor: receives what lives signal, checks those that do not, and carries out requests.
//!
//! `upkeep` has its actions on a child, `report` its publications.

pub(crate) mod child;
mod conclusion;
mod handle;
mod report;
mod upkeep;

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use actix::prelude::*;
use arc_swap::ArcSwap;
use tokio::sync::{broadcast, oneshot, watch};
use tracing::{Span, info, info_span, warn};

use crate::{
    Board, Cause, Event, Lifeline, NotReady, Policy, Readiness, Reason, Restart,
    life::{
        cell::CLOCK_SLACK,
        wire::{Notice, Signal},
    },
};

use child::{Child, Phase};
use handle::Shared;
pub use handle::{ChildStop, Escalation, StopReport, SupervisorHandle, UnknownChild};
use report::Downtime;

/// Time for a thread to end once its event loop was stopped, after an orderly stop that overran.
const FORCED_STOP_GRACE: Duration = Duration::from_millis(100);

/// Runs the children of one tree.
pub(crate) struct SupervisorActor {
    pub(crate) address: Addr<Self>,
    pub(crate) policy: Policy,
    pub(crate) children: Vec<Child>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) boards: watch::Sender<u64>,
    pub(crate) escalation: watch::Sender<Option<Escalation>>,
    /// The logged part of the present downtime.
    pub(crate) logged_downtime: Downtime,
    /// Threads that were given up: child and generation.
    pub(crate) leaked: Vec<(usize, u64)>,
    pub(crate) draining: bool,
    /// Draining is not taken back.
    pub(crate) stopping: bool,
    pub(crate) halting: bool,
    pub(crate) waiting_for_halt: Vec<oneshot::Sender<StopReport>>,
    pub(crate) stopped: Vec<ChildStop>,
    /// The tracing span of the whole start, until everything has reported.
    pub(crate) startup: Option<Span>,
    /// The tracing span of the request for the halt.
    pub(crate) halt_span: Option<Span>,
    /// When the supervisor last checked its children, and how often it does.
    pub(crate) last_check: Instant,
    pub(crate) tick: Duration,
    pub(crate) timer: Option<(Instant, SpawnHandle)>,
}

/// A request of a [`SupervisorHandle`].
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum Ask {
    Drain,
    DrainForStop,
    Undrain,
    Halt(oneshot::Sender<StopReport>, Span),
    Restart(usize),
}

impl SupervisorActor {
    pub(crate) fn launch(
        policy: Policy,
        children: Vec<Child>,
        events: broadcast::Sender<Event>,
    ) -> SupervisorHandle {
        let board = Board {
            serial: 0,
            readiness: Readiness::NotReady(NotReady::Starting),
            started: false,
            components: children.iter().map(Child::component).collect(),
            leaked_threads: 0,
        };
        let shared = Arc::new(Shared {
            board: ArcSwap::from_pointee(board),
            beat: AtomicU64::new(0),
            hang_after: policy.hang_after,
        });
        shared.note_progress();
        let shared_with_readers = Arc::clone(&shared);
        let events_sender = events.clone();
        let (boards, boards_seen) = watch::channel(0);
        let (escalation, escalation_seen) = watch::channel(None);
        let cells = children
            .iter()
            .map(|child| Arc::clone(&child.cell))
            .collect();
        let tick = tick_interval(&policy, &children);
        let startup = match Span::current() {
            outer if outer.is_none() => info_span!("startup"),
            outer => outer,
        };
        let addr = Self::create(move |context| Self {
            address: context.address(),
            policy,
            children,
            shared: shared_with_readers,
            events: events_sender,
            boards,
            escalation,
            logged_downtime: Downtime::default(),
            leaked: Vec::new(),
            draining: false,
            stopping: false,
            halting: false,
            waiting_for_halt: Vec::new(),
            stopped: Vec::new(),
            startup: Some(startup),
            halt_span: None,
            last_check: Instant::now(),
            tick,
            timer: None,
        });
        SupervisorHandle {
            shared,
            addr,
            cells,
            events,
            boards: boards_seen,
            escalation: escalation_seen,
        }
    }

    /// Checks for what sends no signal: threads that stand still, deadlines that pass.
    fn check_children(&mut self) {
        let now = Instant::now();
        self.extend_deadlines_if_stalled(now);
        self.last_check = now;
        for index in 0..self.children.len() {
            self.check(index, now);
        }
    }

    /// A supervisor that was paused does not judge its children: after a stall of this thread or of the
    /// whole process (SIGSTOP, a starved host) every child looks hung, and none may be.
    fn extend_deadlines_if_stalled(&mut self, now: Instant) {
        let stood_still = now.duration_since(self.last_check);
        if stood_still > self.tick * 2 + CLOCK_SLACK {
            warn!(
                stood_still_ms = stood_still.as_millis() as u64,
                "the supervisor was paused; the deadlines of its children are extended by that time"
            );
            self.children
                .iter_mut()
                .for_each(|child| child.extend_deadlines(stood_still));
        }
    }

    fn check(&mut self, index: usize, now: Instant) {
        if self.children[index].look_after_threads() {
            self.bounce(index, Cause::Stalled);
        }
        let child = &mut self.children[index];
        let policy = &child.cell.policy;
        let hang = child.hang();
        match child.phase {
            Phase::Starting { deadline, .. } if now >= deadline => {
                let text = format!(
                    "it has not called `ready`, `degraded` or `unavailable` within {:?} of its start",
                    policy.start_timeout
                );
                self.fault(index, Cause::StartTimeout, None, &text);
            }
            Phase::Starting { .. } | Phase::Up { .. } if hang.is_some() => {
                self.fault(index, Cause::Hang, None, &hang.unwrap_or_default());
            }
            Phase::Up { .. } if child.cell.unanswered() >= policy.unanswered_limit => {
                let text = format!("{} calls in a row got no answer", child.cell.unanswered());
                self.fault(index, Cause::Unanswered, None, &text);
            }
            Phase::Stopping {
                ref mut deadline,
                ref mut life,
                ref mut forced,
            } if now >= *deadline && !*forced => {
                life.lifeline.revoke();
                life.incarnation.end();
                *forced = true;
                *deadline = now + FORCED_STOP_GRACE;
            }
            Phase::Stopping { deadline, .. } if now >= deadline => self.abandon(index),
            _ => {}
        }
        self.check_essential(index, now);
    }

    fn check_essential(&mut self, index: usize, now: Instant) {
        let child = &self.children[index];
        let overdue = child
            .first_begun
            .is_some_and(|begun| now.duration_since(begun) >= child.cell.policy.start_timeout);
        if child.essential && !child.served && !self.halting && overdue {
            let reason = child.shown.1.unwrap_or(Reason::START_TIMEOUT);
            let child = child.name();
            let why = None;
            self.give_up(index, reason, Escalation::NotStarted { child, reason, why });
        }
    }

    fn on_signal(
        &mut self,
        Signal {
            child: index,
            generation,
            notice,
        }: Signal,
    ) {
        if self.children[index].generation != generation || !self.children[index].is_running() {
            // A former life: all that can still matter is that its thread has ended after all.
            if let Notice::Exited(_) = notice {
                self.reap(index, generation);
            }
            return;
        }
        match notice {
            Notice::StatusChanged => self.take_status(index),
            Notice::GaveUp(reason, text) => self.fault(index, Cause::Upstream, Some(reason), &text),
            Notice::CannotStart(reason, text) => {
                if !self.children[index].served {
                    let (child, why) = (self.children[index].name(), Some(text.clone()));
                    self.give_up(index, reason, Escalation::NotStarted { child, reason, why });
                }
                self.fault(index, Cause::Upstream, Some(reason), &text);
            }
            Notice::Failed(text) => {
                self.fault(
                    index,
                    Cause::Error,
                    None,
                    &format!("it returned an error: {text}"),
                );
            }
            Notice::RunFailed(text) => {
                let text = format!("its run returned an error: {text}");
                self.fault(index, Cause::RunFailed, None, &text);
            }
            Notice::Panicked(text) => {
                self.fault(index, Cause::Panic, None, &format!("panicked: {text}"))
            }
            Notice::Exited(cause) => self.on_exit(index, cause),
        }
    }

    fn take_status(&mut self, index: usize) {
        let child = &mut self.children[index];
        let Some((status, has_served)) = child.lifeline().and_then(Lifeline::latest_status) else {
            return;
        };
        if let Phase::Starting { .. } = child.phase
            && let Some(life) = child.take_life()
        {
            child.phase = Phase::Up {
                life,
                since: Instant::now(),
            };
        }
        if !matches!(child.phase, Phase::Up { .. }) {
            return;
        }
        child.status = Some(status);
        child.settled = true;
        child.served |= has_served;
        if let Some(serving) = child.serving() {
            child.start_span = None;
            child.recovers_from = None;
            child.source = serving.source;
            child.cell.set_retry_in(Duration::ZERO);
            self.bounce_outdated(index, serving.version);
        } else {
            child.cell.set_retry_in(Duration::from_secs(1));
        }
    }

    fn on_exit(&mut self, index: usize, cause: Option<Cause>) {
        let child = &self.children[index];
        let cause = cause.unwrap_or(Cause::Stop);
        if child.is_live() && cause == Cause::Stop && child.restart != Restart::Permanent {
            self.finish(index);
        } else if child.is_live() {
            let text = match cause {
                Cause::Panic => "panicked",
                Cause::ThreadLost => "its thread ended",
                _ => "it stopped without a request",
            };
            self.fault(index, cause, None, text);
        }
        let child = &mut self.children[index];
        if let Some(life) = child.take_life()
            && let Some(asked) = life.asked_at
        {
            child.stopped = Some((asked.elapsed(), false));
        }
        self.note_stop(index);
    }

    /// A thread that was given up has ended after all.
    fn reap(&mut self, index: usize, generation: u64) {
        let before = self.leaked.len();
        self.leaked.retain(|leak| *leak != (index, generation));
        if self.leaked.len() < before {
            info!(
                actor.name = self.children[index].name(),
                actor.generation = generation,
                leaked_threads = self.leaked.len(),
                "a thread of {} `{}` that had been given up has ended",
                self.children[index].kind(),
                self.children[index].name()
            );
        }
    }

    /// Brings everything up to date after something happened.
    fn settle(&mut self, context: &mut Context<Self>) {
        self.shared.note_progress();
        // A mailbox that never empties keeps the context from its timers.
        if self.last_check.elapsed() > self.tick * 2 {
            self.check_children();
        }
        self.pump();
        self.report();
        self.set_timer(context);
    }

    /// Wakes up for the next deadline; the regular tick is too coarse for short backoffs.
    fn set_timer(&mut self, context: &mut Context<Self>) {
        let now = Instant::now();
        let next = self
            .children
            .iter()
            .filter_map(Child::next_due)
            .filter(|&due| due > now)
            .min();
        if self.timer.as_ref().map(|(due, _)| *due) == next {
            return;
        }
        if let Some((_, timer)) = self.timer.take() {
            context.cancel_future(timer);
        }
        self.timer = next.map(|due| {
            let timer = context.run_later(due - now, |supervisor, context| {
                supervisor.timer = None;
                supervisor.check_children();
                supervisor.settle(context);
            });
            (due, timer)
        });
    }
}

/// Half the shortest heartbeat, so that a hang is noticed soon after it counts as one.
fn tick_interval(policy: &Policy, children: &[Child]) -> Duration {
    let heartbeats = children.iter().map(|child| child.cell.policy.heartbeat);
    let shortest = heartbeats.fold(policy.heartbeat, Duration::min);
    // An interval of nothing would never let go of the thread.
    (shortest / 2).max(Duration::from_millis(1))
}

impl Actor for SupervisorActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.run_interval(self.tick, |supervisor, context| {
            supervisor.check_children();
            supervisor.settle(context);
        });
        self.settle(context);
    }
}

impl Handler<Signal> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, signal: Signal, context: &mut Self::Context) {
        self.on_signal(signal);
        self.settle(context);
    }
}

impl Handler<Ask> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, ask: Ask, context: &mut Self::Context) {
        match ask {
            Ask::Drain => self.draining = true,
            Ask::DrainForStop => {
                self.draining = true;
                self.stopping = true;
            }
            Ask::Undrain => self.draining = self.stopping,
            Ask::Halt(report, span) => {
                self.halt_span.get_or_insert(span);
                self.draining = true;
                self.stopping = true;
                self.halting = true;
                self.waiting_for_halt.push(report);
                self.children.iter_mut().for_each(Child::ask_ended);
            }
            Ask::Restart(index) => self.restart_on_request(index),
        }
        self.settle(context);
    }
}
