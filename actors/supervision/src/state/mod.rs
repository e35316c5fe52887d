//! What the world sees: the board, the events, the words for them.

mod board;
mod cause;
mod event;
mod reason;

pub use board::{Board, Component, NotReady, Readiness, State};
pub use cause::Cause;
pub use event::Event;
pub use reason::Reason;
