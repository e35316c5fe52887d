//! The way to a running supervisor: what it knows, and what it can be asked to do.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64, atomic::Ordering::Relaxed},
    time::Duration,
};

use actix::Addr;
use arc_swap::ArcSwap;
use tokio::sync::{broadcast, oneshot, watch};
use tracing::Span;

use super::{Ask, SupervisorActor};
use crate::{
    Board, Event, Reason, Vitals,
    life::cell::{Cell, now},
};

/// The state of the supervisor for readers, without a message.
pub(crate) struct Shared {
    pub(crate) board: ArcSwap<Board>,
    /// The supervisor's own last sign of life.
    pub(crate) beat: AtomicU64,
    pub(crate) hang_after: Duration,
}

impl Shared {
    pub(crate) fn note_progress(&self) {
        self.beat.store(now(), Relaxed);
    }
}

/// A supervisor that runs. Clones speak of the same one.
#[derive(Clone)]
pub struct SupervisorHandle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) addr: Addr<SupervisorActor>,
    pub(crate) cells: Arc<[Arc<Cell>]>,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) boards: watch::Receiver<u64>,
    pub(crate) escalation: watch::Receiver<Option<Escalation>>,
}

/// Why a supervisor can do no more: the process had better end, so that its orchestrator takes over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Escalation {
    /// More faults than the policy allows.
    Intensity {
        /// Whose.
        child: &'static str,
        /// The last of them.
        reason: Reason,
        /// How many were allowed.
        intensity: u32,
        /// Within which time.
        period: Duration,
    },
    /// More threads than allowed would not end.
    LeakedThreads {
        /// How many there are.
        leaked: usize,
    },
    /// An [`essential`](crate::ChildSpec::essential) child has not served within its start time-out.
    NotStarted {
        /// Which.
        child: &'static str,
        /// Its last report.
        reason: Reason,
        /// A fault that a retry cannot correct, with the remedy; `None` if time ran out.
        why: Option<String>,
    },
    /// The supervisor itself is gone.
    SupervisorLost,
}

impl fmt::Display for Escalation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Intensity {
                child,
                reason,
                intensity,
                period,
            } => write!(
                f,
                "`{child}` failed more than {intensity} times within {period:?}, last: {reason}"
            ),
            Self::LeakedThreads { leaked } => {
                write!(f, "{leaked} threads hang and cannot be stopped")
            }
            Self::NotStarted { child, reason, why } => {
                write!(
                    f,
                    "`{child}` is required at the start and does not serve: {reason}"
                )?;
                why.iter().try_for_each(|why| write!(f, ": {why}"))
            }
            Self::SupervisorLost => f.write_str("the supervisor itself failed"),
        }
    }
}

/// How the children stopped, in the order of their stopping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopReport {
    /// One entry for each child that was running.
    pub children: Vec<ChildStop>,
}

/// How one child stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildStop {
    /// Its name.
    pub name: &'static str,
    /// From being asked to being gone.
    pub took: Duration,
    /// Whether its thread had to be given up.
    pub abandoned: bool,
}

/// No child of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no component is named `{0}`")]
pub struct UnknownChild(pub String);

impl SupervisorHandle {
    /// The last known state. An atomic load; no component is queried.
    #[must_use]
    pub fn board(&self) -> Arc<Board> {
        self.shared.board.load_full()
    }

    /// Time since the supervisor itself last made progress.
    #[must_use]
    pub fn beat_age(&self) -> Duration {
        Duration::from_micros(now().saturating_sub(self.shared.beat.load(Relaxed)))
    }

    /// Whether the supervisor makes progress, so that the board can be believed.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.beat_age() < self.shared.hang_after
    }

    /// The figures of each child, in the order of their start.
    pub fn vitals(&self) -> impl Iterator<Item = Vitals> {
        self.cells.iter().map(|cell| cell.vitals())
    }

    /// Events from now on. A reader that falls 1,024 events behind learns how many it missed.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Waits for a board that satisfies `condition`, and returns it; for ever if none comes.
    pub async fn until(&self, condition: impl Fn(&Board) -> bool) -> Arc<Board> {
        let mut boards = self.boards.clone();
        loop {
            boards.mark_unchanged();
            let board = self.board();
            if condition(&board) {
                return board;
            }
            if boards.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until the supervisor can do no more; for ever if all goes well.
    pub async fn escalated(&self) -> Escalation {
        let mut escalation = self.escalation.clone();
        match escalation.wait_for(Option::is_some).await {
            Ok(escalation) => escalation.clone().unwrap_or(Escalation::SupervisorLost),
            Err(_) => Escalation::SupervisorLost,
        }
    }

    /// Turns readiness off until [`undrain`](Self::undrain); everything goes on being served.
    pub fn drain(&self) {
        self.ask(Ask::Drain);
    }

    /// Turns readiness off permanently, at the begin of a stop.
    pub fn drain_for_stop(&self) {
        self.ask(Ask::DrainForStop);
    }

    /// Takes a [`drain`](Self::drain) back. During a stop it has no effect.
    pub fn undrain(&self) {
        self.ask(Ask::Undrain);
    }

    /// Stops all children in reverse order, each within its stop time-out, and reports. Every call
    /// gets the same report.
    pub async fn halt(&self) -> StopReport {
        let (report, reported) = oneshot::channel();
        self.ask(Ask::Halt(report, Span::current()));
        reported.await.unwrap_or_default()
    }

    /// Stops one child in good order, with those that follow it, and starts it afresh.
    ///
    /// # Errors
    ///
    /// [`UnknownChild`] if there is none of that name.
    pub fn restart(&self, name: &str) -> Result<(), UnknownChild> {
        let index = self
            .cells
            .iter()
            .position(|cell| cell.name == name)
            .ok_or_else(|| UnknownChild(name.to_owned()))?;
        self.ask(Ask::Restart(index));
        Ok(())
    }

    fn ask(&self, ask: Ask) {
        #[expect(
            clippy::disallowed_methods,
            reason = "what is asked of a supervisor that is gone has no effect anyway"
        )]
        self.addr.do_send(ask);
    }
}

impl fmt::Debug for SupervisorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorHandle")
            .field("board", &self.board())
            .finish_non_exhaustive()
    }
}
