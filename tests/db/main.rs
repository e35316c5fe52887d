//! The database actor and its handle, on both back ends, under a real supervisor.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![expect(unreachable_pub, reason = "modules of one program")]

use dotmac_testkit as support;

mod blocking;
mod composing;
mod faults;
mod files;
mod idempotency;
mod leaders;
mod leasing;
mod load;
mod lost_files;
mod migrating;
mod modules;
mod network;
mod owning;
mod pooling;
mod rig;
mod rotating;
mod schema;
mod sealing;
mod tenants;
mod tls;
mod transactions;
mod working;
