//! The public state: the board, the events, and their words.

mod board;
mod cause;
mod event;
mod reason;

pub use board::{Board, Component, NotReady, Readiness, State};
pub use cause::Cause;
pub use event::Event;
pub use reason::Reason;
