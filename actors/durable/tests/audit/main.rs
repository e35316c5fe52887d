//! The audit log on both back ends: acts are recorded with what they change, and a change of the record shows.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(unreachable_pub, reason = "modules of one program")]

use dotmac_testkit as support;

mod archiving;
mod erasing;
mod exporting;
#[path = "../instance.rs"]
mod instance;
mod killing;
mod parts;
mod recording;
mod resuming;
mod rig;
mod verifying;
