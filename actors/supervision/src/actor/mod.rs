//! Actors: how a life of one is run, and how callers reach it.

pub(crate) mod handle;
pub(crate) mod inbox;
pub(crate) mod incarnation;

use std::sync::Arc;

use actix::{Actor, ActorContext, Context};

use crate::{Lifeline, Spec};

pub use handle::{ActorHandle, CallError};

/// An actor that a supervisor can run.
///
/// Each life has an arbiter thread of its own, so a handler that blocks holds up no other actor.
pub trait SupervisedActor: Actor<Context = Context<Self>> {
    /// Asked to end in good order. Finish what matters (`ctx.spawn`), then call `ctx.stop()`;
    /// [`Policy::stop_timeout`](crate::Policy::stop_timeout) later the thread is given up. The default stops at once.
    fn shutdown(&mut self, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

/// One actor of a tree: a name, the factory that builds a fresh value for each life, and rules.
pub type ChildSpec<A> = Spec<ActorFactory<A>>;

/// Builds the actor of one life.
pub struct ActorFactory<A: SupervisedActor>(pub(crate) Arc<dyn Fn(Lifeline) -> A + Send + Sync>);

impl<A: SupervisedActor> ChildSpec<A> {
    /// An actor that is optional, permanent, needs no other and follows the tree's policy.
    ///
    /// `factory` runs on the new life's own thread. It must not block; a panic in it is a fault.
    pub fn new(
        name: &'static str,
        factory: impl Fn(Lifeline) -> A + Send + Sync + 'static,
    ) -> Self {
        Self::of(name, ActorFactory(Arc::new(factory)))
    }
}
