//! Why a component is not simply ready, in words that a dashboard can count.

use std::fmt;

/// A reason out of a closed set: only constants of this type exist, so it is safe to show
/// and used as a label. The generic ones are here; each actor declares its own with its errors.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reason(&'static str);

impl Reason {
    /// It has not reported yet.
    pub const STARTING: Self = Self("starting");
    /// The process is stopping.
    pub const SHUTDOWN: Self = Self("shutdown");
    /// It panicked, in a handler or anywhere on its thread.
    pub const PANICKED: Self = Self("panicked");
    /// Its thread made no progress, or it left call after call unanswered.
    pub const HUNG: Self = Self("hung");
    /// It stopped without being asked to.
    pub const STOPPED: Self = Self("stopped");
    /// Its work ended with an error; the log has it.
    pub const ERROR: Self = Self("error");
    /// It has done its work, and ended as it should.
    pub const FINISHED: Self = Self("finished");
    /// Its thread ended under it, or could not be started.
    pub const THREAD_LOST: Self = Self("thread_lost");
    /// It reported no status within the time it has for starting.
    pub const START_TIMEOUT: Self = Self("start_timeout");
    /// An external dependency did not answer.
    pub const UNREACHABLE: Self = Self("unreachable");
    /// The threads that workers share stood still, blocked by what one of them had spawned.
    pub const STALLED: Self = Self("stalled");
    /// A component that it needs is not ready.
    pub const DEPENDENCY: Self = Self("dependency");
    /// The version of a component that it follows has changed.
    pub const DEPENDENCY_CHANGED: Self = Self("dependency_changed");
    /// An operator asked for a restart.
    pub const REQUESTED: Self = Self("requested");

    /// A reason of an actor's own. `word` is lower case with underscores and listed in the
    /// documentation; it must not be built from input.
    #[must_use]
    pub const fn new(word: &'static str) -> Self {
        Self(word)
    }

    /// The word itself, as probes and metrics show it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}
