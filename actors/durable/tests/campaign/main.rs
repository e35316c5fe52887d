//! A row, its event, its jobs and its audit entry are of one transaction: processes are killed again and again, and the
//! database with them, and a checker compares all that there is afterwards.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(unreachable_pub, reason = "modules of one program")]

use dotmac_testkit as support;

mod checker;
#[expect(dead_code, reason = "other tests use all of it")]
#[path = "../instance.rs"]
mod instance;
mod killing;
mod overlapping;
mod statements;
#[path = "../victim.rs"]
mod victim;
mod work;
