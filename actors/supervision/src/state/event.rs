//! The stream of what happened, for logs, the journal and subscribers.

use std::time::SystemTime;

use crate::{Cause, Reason, State};

/// A component entered a state, or a life of it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: SystemTime,
    /// Which component.
    pub component: &'static str,
    /// Its life, counted from 1; 0 before the first.
    pub generation: u64,
    /// The state it is in now.
    pub state: State,
    /// Why, where the state alone does not say it.
    pub reason: Option<Reason>,
    /// The cause of the end of its former life, on the next event.
    pub cause: Option<Cause>,
}
