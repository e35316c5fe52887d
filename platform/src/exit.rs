//! How the process may end, in numbers that an orchestrator can act upon.

use std::process::ExitCode;

/// Why the process ends. The numbers follow `sysexits.h` where it has one for the case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Stopped as asked, or the command did what it was for.
    Success,
    /// A probe or a check said no.
    Failure,
    /// The command line was not understood (`EX_USAGE`).
    Usage,
    /// Something that must be there at the start is not (`EX_UNAVAILABLE`).
    Unavailable,
    /// Supervision could do no more (`EX_SOFTWARE`).
    Escalation,
    /// The stop took longer than it may (`EX_TEMPFAIL`).
    Overrun,
    /// The settings are wrong (`EX_CONFIG`).
    Settings,
    /// A second signal cut the stop short (128 + SIGINT).
    Interrupted,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 64,
            Self::Unavailable => 69,
            Self::Escalation => 70,
            Self::Overrun => 75,
            Self::Settings => 78,
            Self::Interrupted => 130,
        }
    }

    /// Ends the process now, even while other threads run: for threads that the main one cannot wait for.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that ends the process from outside `main`"
    )]
    pub(crate) fn now(self) -> ! {
        std::process::exit(i32::from(self.code()))
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
