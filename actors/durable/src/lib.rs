//! What is durable beneath services: events and jobs that are written in the transaction of their cause, and what acts
//! upon them.
//!
//! [`events`] is the log: [`Emit::emit`](events::Emit::emit) on a transaction, [`Subscriber`](events::Subscriber) for
//! what follows. [`jobs`] is the queue: [`Enqueue::enqueue`](jobs::Enqueue::enqueue) on a transaction,
//! [`Runner`](jobs::Runner) for what does them. The crate knows databases and supervision, and no HTTP.

mod clock;
pub mod events;
pub mod jobs;
mod json_text;
mod outage;
mod trace;
mod wake;

use dotmac_db::{Migrations, migrations};

/// The owner of these tables.
pub const OWNER: &str = "durable";

/// The migrations of these tables.
pub const MIGRATIONS: Migrations = migrations!("migrations").owned_by(OWNER);
