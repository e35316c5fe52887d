//! Every way in which a supervised actor can fail, and every promise that supervision makes about it.
//!
//! Each test runs its own tree on a separate actix system. No test relies on being quick:
//! it waits for what must happen, up to a generous limit, and asserts lower bounds only.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod board;
mod callers;
mod failures;
mod following;
mod hangs;
mod limits;
mod order;

mod random;
mod restarts;
mod stalls;
mod stopping;
mod support;
mod workers;
