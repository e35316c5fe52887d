//! One life of a child: how its supervisor holds it, what it says of itself, how its end is noticed.
//!
//! There are two kinds of children, actors and workers. Both are [`Incarnate`]: how a life begins is
//! theirs, everything else - states, restarts, order, fencing - is written once, in `supervisor`.

pub(crate) mod cell;
mod guard;
mod lifeline;
pub(crate) mod panic_hook;
mod published;
pub(crate) mod wire;

use std::{io, time::Duration};

use tracing::Span;

pub use cell::{CallObserver, CallOutcome, Vitals};
pub(crate) use guard::{Exit, run_guarded};
pub use lifeline::{Lifeline, Serving};
pub use panic_hook::{current_child, install_panic_hook, panic_message};
pub use published::Published;

/// Begins the lives of one child.
pub(crate) trait Incarnate {
    /// The name of this kind in the log.
    fn kind(&self) -> &'static str;

    /// Begins `life`; what runs at its start does so within `span`.
    ///
    /// # Errors
    ///
    /// The operating system has no thread left.
    fn begin(&self, life: Lifeline, span: Span) -> io::Result<Box<dyn Incarnation>>;
}

/// A running life, as its supervisor holds it.
pub(crate) trait Incarnation {
    /// Asks it to end in good order, within `span`. Later calls do nothing.
    fn shut_down(&mut self, span: Span);

    /// Ends it as soon as its thread comes back from what it does.
    fn end(&mut self);

    /// Its fault, if it makes no progress.
    fn hang(&self) -> Option<String>;

    /// Looks after threads that it shares with others. Called at each look at the children.
    fn look_after_threads(&self) {}

    /// Whether those threads make no progress through no fault of this child, and there are others.
    fn must_move(&self) -> bool {
        false
    }

    /// Moves the deadline of [`hang`](Self::hang) by the time in which its supervisor could not see it.
    fn extend_deadlines(&self, by: Duration);
}
