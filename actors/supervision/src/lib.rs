//! Restarts actors that fail, in a tree that knows what each of them needs, and reports truthfully how they are.
//!
//! actix's own `Supervisor` neither restarts an actor that panicked nor builds a fresh value; this
//! module does both. Every life of an actor runs on its own thread, built by its factory, and
//! ends in one of the ways that [`Cause`] lists; callers keep one [`ActorHandle`] through all of them.
//!
//! ```no_run
//! use actix::prelude::*;
//! use dotmac_supervision::{ChildSpec, Lifeline, Policy, Serving, SupervisedActor, SupervisionTree};
//!
//! struct Clock(Lifeline);
//! impl Actor for Clock {
//!     type Context = Context<Self>;
//!     fn started(&mut self, _: &mut Self::Context) {
//!         self.0.ready(Serving::default());
//!     }
//! }
//! impl SupervisedActor for Clock {}
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
//! says of itself), `supervisor` (what is done about it), `actor` (one life on one thread), [`Board`]
//! (what the world sees).

#[cfg(not(panic = "unwind"))]
compile_error!(
    "supervision needs `panic = \"unwind\"`: under `abort` the first panic of any actor ends the process"
);

mod actor;
mod life;
mod policy;
mod state;
mod supervisor;
mod tree;
mod worker;

pub use actor::{ActorFactory, ActorHandle, CallError, ChildSpec, SupervisedActor};
pub use life::{
    CallObserver, CallOutcome, Lifeline, Published, Serving, Vitals, current_child,
    install_panic_hook, panic_message,
};
pub use policy::{Policy, PolicyError};
pub use state::{Board, Cause, Component, Event, NotReady, Readiness, Reason, State};
pub use supervisor::{ChildStop, Escalation, StopReport, SupervisorHandle, UnknownChild};
pub use tree::{
    ComponentHandle, Exhausted, Follow, Need, Restart, Spec, SupervisionTree, TreeError,
};
pub use worker::{
    Progress, SHORTEST_RUN_LIMIT, Schedule, WorkerBody, WorkerContext, WorkerHandle, WorkerSpec,
    WorkerVitals,
};

/// Target of the log line that says why the process ends; no log level hides it.
pub const EXIT: &str = "dotmac::exit";

/// Target of log lines that are kept as evidence, such as checkpoints of an audit log: no log level hides them, and no limit
/// on lines suppresses them. For lines that are few by themselves.
pub const EVIDENCE: &str = "dotmac::evidence";
