//! The event log on both back ends: emitted events exist, and their effects take place once, under all faults.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(unreachable_pub, reason = "modules of one program")]

use dotmac_testkit as support;

mod emitting;
mod failing;
#[path = "../instance.rs"]
mod instance;
mod interleaving;
mod killing;
mod relaying;
mod retaining;
mod rig;
mod subscribing;
mod traces;
#[path = "../victim.rs"]
mod victim;
mod writing;
