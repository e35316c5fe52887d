//! What travels from a life to its supervisor, and the typed slots that the supervisor opens and
//! shuts without knowing their types.

use actix::prelude::*;

use super::{Cause, Reason, lifeline::Serving};

/// What a life says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Ready(Serving),
    Degraded(Reason, Serving),
    Unavailable(Reason),
}

/// What happened in a life, or was said by it.
#[derive(Debug)]
pub(crate) enum Notice {
    Word(Word),
    /// It gave up; the text is for the log alone.
    GaveUp(Reason, String),
    /// It can never serve until somebody has mended something; the text is for the log alone.
    CannotStart(Reason, String),
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

/// A place where callers find a child, its type erased.
pub(crate) trait Slot: Send + Sync {
    /// The life serves: let callers in.
    fn open(&self, generation: u64);
    /// The life cannot serve for now: new callers are refused, those under way go on.
    fn close(&self);
    /// The life is over: those under way fail at once.
    fn revoke(&self);
}
