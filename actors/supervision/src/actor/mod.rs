//! Actors: how a life of one is run, and how callers reach it.

pub(crate) mod handle;
pub(crate) mod inbox;
pub(crate) mod incarnation;

pub use handle::{ActorHandle, CallError};
