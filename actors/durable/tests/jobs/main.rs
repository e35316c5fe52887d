//! The queue of jobs on both back ends: enqueued jobs run, under all faults, and no late worker changes anything.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(unreachable_pub, reason = "modules of one program")]

use dotmac_testkit as support;

mod controlling;
mod enqueuing;
#[path = "../instance.rs"]
mod instance;
mod keys;
mod killing;
mod leasing;
mod recovering;
mod rig;
mod running;
mod scheduling;
mod settling;
mod sharing;
mod snapshots;
mod suspecting;
mod vacuuming;
#[path = "../victim.rs"]
mod victim;
mod waking;
