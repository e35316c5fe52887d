//! The causes of the end of a life, as labels for dashboards.

use super::Reason;

/// The cause of the end of a life, as in `dotmac_actor_restarts_total{cause}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A panic anywhere on its thread.
    Panic,
    /// Its thread made no progress.
    Hang,
    /// Call after call went unanswered.
    Unanswered,
    /// It stopped by itself.
    Stop,
    /// Its thread ended under it, or could not be started.
    ThreadLost,
    /// It reported no status within its start time-out.
    StartTimeout,
    /// It returned an error.
    Error,
    /// A run of a periodic worker returned an error; the next one may do better.
    RunFailed,
    /// It gave up because something beyond this process failed it.
    Upstream,
    /// Tasks that workers have spawned blocked the threads it runs on; it moved to others.
    Stalled,
    /// A component that it needs was restarted or has changed.
    Dependency,
    /// An operator, or the embedding program, asked for it.
    Requested,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Panic,
        Self::Hang,
        Self::Unanswered,
        Self::Stop,
        Self::ThreadLost,
        Self::StartTimeout,
        Self::Error,
        Self::RunFailed,
        Self::Upstream,
        Self::Stalled,
        Self::Dependency,
        Self::Requested,
    ];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Hang => "hang",
            Self::Unanswered => "unanswered",
            Self::Stop => "stop",
            Self::ThreadLost => "thread_lost",
            Self::StartTimeout => "start_timeout",
            Self::Error => "error",
            Self::RunFailed => "run_failed",
            Self::Upstream => "upstream",
            Self::Stalled => "stalled",
            Self::Dependency => "dependency",
            Self::Requested => "requested",
        }
    }

    /// Whether it counts towards [`Policy::intensity`](crate::Policy::intensity). What lies beyond this process is no fault of
    /// the actor's, and a restart of the process would not mend it; a run that failed is tried again as periodic work is.
    #[must_use]
    pub const fn counts(self) -> bool {
        !matches!(
            self,
            Self::RunFailed | Self::Upstream | Self::Stalled | Self::Dependency | Self::Requested
        )
    }

    /// The reason shown while the child is away for this cause.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::Panic => Reason::PANICKED,
            Self::Hang | Self::Unanswered => Reason::HUNG,
            Self::Stop => Reason::STOPPED,
            Self::ThreadLost => Reason::THREAD_LOST,
            Self::StartTimeout => Reason::START_TIMEOUT,
            Self::Error | Self::RunFailed => Reason::ERROR,
            Self::Upstream => Reason::UNREACHABLE,
            Self::Stalled => Reason::STALLED,
            Self::Dependency => Reason::DEPENDENCY_CHANGED,
            Self::Requested => Reason::REQUESTED,
        }
    }
}
