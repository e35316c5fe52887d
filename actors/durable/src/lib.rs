//! What is durable beneath services: events that are written in the transaction of their cause, and the subscribers
//! that act upon them.
//!
//! [`events`] is the log: [`Emit::emit`](events::Emit::emit) on a transaction, [`Subscriber`](events::Subscriber) for
//! what follows. It knows databases and supervision, and no HTTP.

pub mod events;

use dotmac_db::{Migrations, migrations};

/// The owner of these tables.
pub const OWNER: &str = "durable";

/// The migrations of these tables.
pub const MIGRATIONS: Migrations = migrations!("migrations").owned_by(OWNER);
