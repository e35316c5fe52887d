//! Actors: how a life of one is run, and how callers reach it.

pub(crate) mod handle;
pub(crate) mod inbox;
pub(crate) mod incarnation;

use actix::{Actor, ActorContext, Context};

pub use handle::{ActorHandle, CallError};

/// An actor that a supervisor can run.
///
/// Each life has an arbiter thread of its own, so a handler that blocks holds up nobody else.
pub trait SupervisedActor: Actor<Context = Context<Self>> {
    /// Asked to end in good order. Finish what matters (`ctx.spawn`), then call `ctx.stop()`;
    /// [`Policy::stop_timeout`](crate::Policy::stop_timeout) later the thread is given up. The default stops at once.
    fn shutdown(&mut self, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
