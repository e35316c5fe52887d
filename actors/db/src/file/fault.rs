//! Faults of an open SQLite file, with their remedies.

use std::fmt;

/// A fault of an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing is in its place; `moved` if it has another name.
    Missing { moved: bool },
    /// Another file is in its place.
    Replaced,
    /// It is shorter than it was, and than its header says.
    Truncated,
    /// Its header is none that SQLite made of the former one.
    Overwritten,
    /// Its write-ahead log has no name any more. SQLite still has it open, so nothing is lost.
    LogMissing,
    /// Its write-ahead log was truncated or overwritten: what was in it and not yet in the file is lost.
    LogDamaged,
}

impl Fault {
    /// Whether what is in place must not get anything of what this process has open.
    pub(super) const fn is_foreign(self) -> bool {
        !matches!(self, Self::Missing { .. } | Self::LogMissing)
    }

    /// The change of the file.
    pub(super) const fn event(self) -> &'static str {
        match self {
            Self::Missing { moved: true } => "was moved away while it was open",
            Self::Missing { moved: false } => "was deleted while it was open",
            Self::Replaced => "was replaced while it was open",
            Self::Truncated => "was truncated while it was open",
            Self::Overwritten => "was overwritten while it was open",
            Self::LogMissing => "lost its write-ahead log while it was open",
            Self::LogDamaged => {
                "had its write-ahead log truncated or overwritten while it was open"
            }
        }
    }

    /// The next step, or the remedy.
    const fn remedy(self) -> &'static str {
        match self {
            Self::Missing { moved: true } => "move it back, or put a backup in its place",
            Self::Missing { moved: false } => {
                "put a backup in its place, or save it from this process's open files"
            }
            Self::Truncated => "put a backup in its place",
            Self::Replaced | Self::Overwritten => {
                "the new file is opened once it is complete and all former connections are closed"
            }
            Self::LogMissing => {
                "the log is written into the file before the file is opened again; nothing is lost"
            }
            Self::LogDamaged => "the newest commits are lost; the file is opened without them",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.event(), self.remedy())
    }
}
