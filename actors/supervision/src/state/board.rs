//! The last known state of the tree, as a value that can be read at any time.
//!
//! A new [`Board`] is published whenever something changed; probes and metrics read the current one
//! with an atomic load, so the cost of their answer is independent of the actors.

use std::{fmt, time::SystemTime};

use crate::Reason;

/// The state of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// For a component that it needs.
    Waiting,
    /// Its first life is starting.
    Starting,
    /// It works.
    Ready,
    /// It works, with a limitation that its reason names.
    Degraded,
    /// It did its work before and cannot now, for what lies beyond it. It is not restarted: it tries
    /// again by itself.
    Unavailable,
    /// Its life is over, and another is to come.
    Restarting,
    /// It was asked to stop and has not yet.
    Stopping,
    /// It stopped as asked.
    Stopped,
    /// It was given up.
    Failed,
}

impl State {
    /// All of them, in the order of a life.
    pub const ALL: [Self; 9] = [
        Self::Waiting,
        Self::Starting,
        Self::Ready,
        Self::Degraded,
        Self::Unavailable,
        Self::Restarting,
        Self::Stopping,
        Self::Stopped,
        Self::Failed,
    ];

    /// The word that probes, logs and metrics use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Unavailable => "unavailable",
            Self::Restarting => "restarting",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }

    /// Whether a component in this state does its work.
    #[must_use]
    pub const fn serves(self) -> bool {
        matches!(self, Self::Ready | Self::Degraded)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One component as the world may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// Its name in the tree.
    pub name: &'static str,
    /// Its state.
    pub state: State,
    /// Whether the whole is not ready without it.
    pub required: bool,
    /// When it entered the state.
    pub since: SystemTime,
    /// Lives after the first.
    pub restarts: u64,
    /// Number of its life, counted from 1; 0 before the first.
    pub generation: u64,
    /// Why it is not simply ready.
    pub reason: Option<Reason>,
    /// Its source, in its own word ("environment", "sqlite").
    pub source: Option<&'static str>,
}

/// Whether the whole can do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Every component is ready.
    Ready,
    /// Every required component serves, but something is not as it should be.
    Degraded,
    /// Send no work.
    NotReady(NotReady),
}

impl Readiness {
    /// The word that probes and logs use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::NotReady(_) => "not_ready",
        }
    }

    /// Whether work should be sent.
    #[must_use]
    pub const fn serves(self) -> bool {
        !matches!(self, Self::NotReady(_))
    }
}

/// Why no work should be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReady {
    /// Not every component has reported for the first time.
    Starting,
    /// A required component does not serve.
    ComponentDown,
    /// The process is about to stop; what is sent is still answered.
    Draining,
}

impl NotReady {
    /// The word that probes and logs use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::ComponentDown => "component_down",
            Self::Draining => "draining",
        }
    }
}

/// A snapshot of the whole tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Board {
    /// Different for each new board of one supervisor.
    pub serial: u64,
    /// Whether the whole can do its work.
    pub readiness: Readiness,
    /// Whether it ever could.
    pub started: bool,
    /// The components in the order of their start.
    pub components: Vec<Component>,
    /// Threads given up because they would not end, and not ended since.
    pub leaked_threads: usize,
}

impl Board {
    /// The component of that name.
    #[must_use]
    pub fn component(&self, name: &str) -> Option<&Component> {
        self.components
            .iter()
            .find(|component| component.name == name)
    }
}
