//! Restarts actors that fail, in a tree that knows who needs whom, and says the truth about them.
//!
//! actix's own `Supervisor` neither restarts an actor that panicked nor builds a fresh value; this
//! module does both. Every life of an actor runs on a thread of its own, built by its factory, and
//! ends in one of the ways that [`Cause`] lists; callers keep one [`ActorHandle`] through all of them.
//!
//! ```no_run
//! use actix::prelude::*;
//! use dotmac_supervision::{ChildSpec, Lifeline, Policy, Service, Serving, SupervisionTree};
//!
//! struct Clock(Lifeline);
//! impl Actor for Clock {
//!     type Context = Context<Self>;
//!     fn started(&mut self, _: &mut Self::Context) {
//!         self.0.ready(Serving::default());
//!     }
//! }
//! impl Service for Clock {}
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! System::new().block_on(async {
//!     let mut tree = SupervisionTree::new(Policy::default())?;
//!     let clock = tree.add(ChildSpec::new("clock", Clock).required())?;
//!     let supervisor = tree.start();
//!     assert_eq!(clock.name(), "clock");
//!     supervisor.halt().await;
//!     # Ok(())
//! })
//! # }
//! ```
//!
//! Reading order: [`ChildSpec`] and [`SupervisionTree`] (what to run), [`Lifeline`] (what an actor
//! says of itself), `supervisor` and `child` (what is done about it), `incarnation` (one life on one
//! thread), [`Board`] (what the world sees).

#[cfg(not(panic = "unwind"))]
compile_error!(
    "supervision needs `panic = \"unwind\"`: under `abort` the first panic of any actor ends the process"
);

mod board;
mod cell;
mod child;
mod event;
mod handle;
mod inbox;
mod incarnation;
mod lifeline;
mod panic_hook;
mod policy;
mod published;
mod reason;
mod report;
mod spec;
mod supervisor;
mod supervisor_handle;
mod upkeep;
mod wire;

pub use board::{Board, Component, NotReady, Readiness, State};
pub use cell::{CallObserver, CallOutcome, Cause, Vitals};
pub use event::Event;
pub use handle::{ActorHandle, CallError};
pub use lifeline::{Lifeline, Serving};
pub use panic_hook::install_panic_hook;
pub use policy::{Policy, PolicyError};
pub use published::Published;
pub use reason::Reason;
pub use spec::{ChildSpec, Follow, Need, SupervisionTree, TreeError};
pub use supervisor_handle::{ChildStop, Escalation, StopReport, SupervisorHandle, UnknownChild};

use actix::{Actor, ActorContext, Context};

/// Target of the log line that says why the process ends; no log level hides it.
pub const EXIT: &str = "dotmac::exit";

/// An actor that a supervisor can run.
///
/// Each life has an arbiter thread of its own, so a handler that blocks holds up nobody else.
pub trait Service: Actor<Context = Context<Self>> {
    /// Asked to end in good order. Finish what matters (`ctx.spawn`), then call `ctx.stop()`;
    /// [`Policy::stop_timeout`] later the thread is given up. The default stops at once.
    fn shutdown(&mut self, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
