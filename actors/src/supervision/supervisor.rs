//! The supervisor: hears of every life, looks for those that make no sound, and is asked to stop.
//!
//! What it then does about a child is in `upkeep`; what it tells the world, in `report`.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use actix::prelude::*;
use arc_swap::ArcSwap;
use tokio::sync::{broadcast, oneshot, watch};
use tracing::{Span, info_span};

use super::{
    Board, Cause, ChildStop, Escalation, Event, NotReady, Policy, Readiness, Reason, StopReport,
    SupervisorHandle,
    child::{Child, Phase},
    supervisor_handle::Shared,
    wire::{Notice, Signal, Word},
};

/// Time for a thread to end once its event loop was told to, after an orderly stop that overran.
const FORCED_STOP_GRACE: Duration = Duration::from_millis(100);

/// How late a tick may be before the supervisor doubts its own clock instead of its children.
const TICK_SLACK: Duration = Duration::from_millis(250);

/// Runs the children of one tree.
pub(crate) struct SupervisorActor {
    pub(super) address: Addr<Self>,
    pub(super) policy: Policy,
    pub(super) children: Vec<Child>,
    pub(super) shared: Arc<Shared>,
    pub(super) events: broadcast::Sender<Event>,
    pub(super) boards: watch::Sender<u64>,
    pub(super) escalation: watch::Sender<Option<Escalation>>,
    /// Threads that were given up: child and generation.
    pub(super) leaked: Vec<(usize, u64)>,
    pub(super) draining: bool,
    pub(super) halting: bool,
    pub(super) waiting_for_halt: Vec<oneshot::Sender<StopReport>>,
    pub(super) stopped: Vec<ChildStop>,
    /// The tracing span of the whole start, until everything has reported.
    pub(super) startup: Option<Span>,
    pub(super) last_tick: Instant,
    pub(super) timer: Option<(Instant, SpawnHandle)>,
}

/// What a [`SupervisorHandle`] asks for.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) enum Ask {
    Drain,
    Halt(oneshot::Sender<StopReport>),
    Restart(usize),
}

impl SupervisorActor {
    pub(super) fn launch(
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
        let addr = Self::create(|context| Self {
            address: context.address(),
            policy,
            children,
            shared: shared_with_readers,
            events: events_sender,
            boards,
            escalation,
            leaked: Vec::new(),
            draining: false,
            halting: false,
            waiting_for_halt: Vec::new(),
            stopped: Vec::new(),
            startup: Some(info_span!(parent: None, "startup")),
            last_tick: Instant::now(),
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

    /// Half the shortest heartbeat, so that a hang is noticed soon after it counts as one.
    fn tick_interval(&self) -> Duration {
        let shortest = self
            .children
            .iter()
            .map(|child| child.cell.policy.heartbeat)
            .min();
        shortest
            .unwrap_or(self.policy.heartbeat)
            .min(self.policy.heartbeat)
            / 2
    }

    /// Looks for what makes no sound: threads that stand still, deadlines that pass.
    fn tick(&mut self) {
        let now = Instant::now();
        self.forgive_if_stalled(now);
        self.last_tick = now;
        self.check_all(now);
    }

    fn check_all(&mut self, now: Instant) {
        for index in 0..self.children.len() {
            self.check(index, now);
        }
    }

    /// Who was stopped himself must not judge others: after a stall of this thread or the whole
    /// process (SIGSTOP, a starved host) every actor looks hung, and none may be.
    fn forgive_if_stalled(&self, now: Instant) {
        let late = now.duration_since(self.last_tick);
        if late > self.tick_interval() * 2 + TICK_SLACK {
            self.children
                .iter()
                .for_each(|child| child.cell.note_progress());
        }
    }

    fn check(&mut self, index: usize, now: Instant) {
        let child = &mut self.children[index];
        let policy = &child.cell.policy;
        match child.phase {
            Phase::Starting { deadline, .. } if now >= deadline => {
                let text = format!(
                    "said nothing within {:?} of its start",
                    policy.start_timeout
                );
                self.fault(index, Cause::StartTimeout, None, &text);
            }
            Phase::Starting { .. } | Phase::Up { .. }
                if child.cell.since_progress() > policy.hang_after =>
            {
                let text = format!(
                    "its thread made no progress for {:?}",
                    child.cell.since_progress()
                );
                self.fault(index, Cause::Hang, None, &text);
            }
            Phase::Up { .. } if child.cell.unanswered() >= policy.unanswered_limit => {
                let text = format!("{} calls in a row got no answer", child.cell.unanswered());
                self.fault(index, Cause::Unanswered, None, &text);
            }
            Phase::Stopping {
                ref mut deadline,
                ref life,
                ref mut forced,
            } if now >= *deadline && !*forced => {
                life.lifeline.revoke();
                life.incarnation.end_thread();
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
            self.give_up(
                index,
                Escalation::NotStarted {
                    child: child.name(),
                    reason,
                },
            );
        }
    }

    fn hear(
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
                self.leaked.retain(|leak| *leak != (index, generation));
            }
            return;
        }
        match notice {
            Notice::Word(word) => self.hear_word(index, word),
            Notice::GaveUp(reason, text) => self.fault(index, Cause::Upstream, Some(reason), &text),
            Notice::CannotStart(reason, text) => {
                self.fault(index, Cause::Upstream, Some(reason), &text);
                if !self.children[index].served {
                    let child = self.children[index].name();
                    self.give_up(index, Escalation::NotStarted { child, reason });
                }
            }
            Notice::Panicked(text) => {
                self.fault(index, Cause::Panic, None, &format!("panicked: {text}"))
            }
            Notice::Exited(cause) => self.hear_exit(index, cause),
        }
    }

    fn hear_word(&mut self, index: usize, word: Word) {
        let child = &mut self.children[index];
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
        child.word = Some(word);
        child.settled = true;
        if let Some(serving) = child.serving() {
            child.served = true;
            child.start_span = None;
            child.source = serving.source;
            child.cell.set_retry_in(Duration::ZERO);
            self.bounce_outdated(index, serving.version);
        } else {
            child.cell.set_retry_in(Duration::from_secs(1));
        }
    }

    fn hear_exit(&mut self, index: usize, cause: Option<Cause>) {
        if self.children[index].is_live() {
            let cause = cause.unwrap_or(Cause::Stop);
            let text = if cause == Cause::Panic {
                "panicked"
            } else {
                "it ended although nobody had asked it to"
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

    /// Brings everything up to date after something happened.
    fn settle(&mut self, context: &mut Context<Self>) {
        self.shared.note_progress();
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
                supervisor.check_all(Instant::now());
                supervisor.settle(context);
            });
            (due, timer)
        });
    }
}

impl Actor for SupervisorActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.run_interval(self.tick_interval(), |supervisor, context| {
            supervisor.tick();
            supervisor.settle(context);
        });
        self.settle(context);
    }
}

impl Handler<Signal> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, signal: Signal, context: &mut Self::Context) {
        self.hear(signal);
        self.settle(context);
    }
}

impl Handler<Ask> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, ask: Ask, context: &mut Self::Context) {
        match ask {
            Ask::Drain => self.draining = true,
            Ask::Halt(report) => {
                self.draining = true;
                self.halting = true;
                self.waiting_for_halt.push(report);
            }
            Ask::Restart(index) if self.children[index].is_live() => {
                self.bounce(index, Cause::Requested)
            }
            Ask::Restart(_) => {}
        }
        self.settle(context);
    }
}
