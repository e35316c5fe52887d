//! Signals from a life to its supervisor, and the typed slots that both open and shut without
//! knowing their types.

use std::any::Any;

use actix::prelude::*;

use crate::{Cause, Reason, Serving};

/// How a life is, in its own report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Ready(Serving),
    Degraded(Reason, Serving),
    Unavailable(Reason),
    /// It has begun to do again what its former life failed in, and has not succeeded yet.
    Recovering(Reason),
}

impl Status {
    pub(crate) const fn serving(self) -> Option<Serving> {
        match self {
            Self::Ready(serving) | Self::Degraded(_, serving) => Some(serving),
            Self::Unavailable(_) | Self::Recovering(_) => None,
        }
    }
}

/// An event of a life.
#[derive(Debug)]
pub(crate) enum Notice {
    /// It has a new status, to be fetched from its [`Lifeline`](crate::Lifeline).
    StatusChanged,
    /// It gave up; the text is for the log alone.
    GaveUp(Reason, String),
    /// It can never serve until something has been mended; the text is for the log alone.
    CannotStart(Reason, String),
    /// It returned an error; the text is for the log alone.
    Failed(String),
    /// A run of it ended with this error.
    RunFailed(String),
    /// It panicked; `message at file:line`.
    Panicked(String),
    /// Its wrapper task is gone, and with it the actor. `None`: as asked.
    Exited(Option<Cause>),
}

/// A [`Notice`] with the life that it is of.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Signal {
    pub(crate) child: usize,
    pub(crate) generation: u64,
    pub(crate) notice: Notice,
}

/// The value of a slot. Its `Drop` is the actor's code, which may panic or block: it is dropped
/// on the actor's own thread, under no lock.
pub(crate) type Withdrawn = Box<dyn Any + Send>;

/// A place where callers find a child, its type erased.
pub(crate) trait Slot: Send + Sync {
    /// The life serves: let callers in.
    fn open(&self, generation: u64);
    /// The life cannot serve for now: new callers are refused, those under way go on.
    fn close(&self) -> Option<Withdrawn>;
    /// The life is over: those under way fail at once.
    fn revoke(&self) -> Option<Withdrawn>;
}
