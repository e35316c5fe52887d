//! What is durable beneath services: events, jobs and audit entries that are written in the transaction of their cause,
//! and what acts upon them.
//!
//! [`events`] is the log: [`Emit::emit`](events::Emit::emit) on a transaction, [`Subscriber`](events::Subscriber) for
//! what follows. [`jobs`] is the queue: [`Enqueue::enqueue`](jobs::Enqueue::enqueue) on a transaction,
//! [`Runner`](jobs::Runner) for what does them. [`audit`] is the audit log: [`Audit::audit`](audit::Audit::audit) on a
//! transaction, [`sealer`](audit::sealer) for its chain. [`delivery`] is what services share that hand something on to others. The
//! crate knows databases and supervision, and no HTTP.

pub mod audit;
mod clock;
mod declared;
pub mod delivery;
pub mod events;
pub mod jobs;
mod json_text;
mod order;
mod outage;
mod trace;
mod wake;

use dotmac_db::{Migrations, TenantId, migrations};

/// The owner of these tables.
pub const OWNER: &str = "durable";

/// The migrations of these tables.
pub const MIGRATIONS: Migrations = migrations!("migrations").owned_by(OWNER);

/// Whose the jobs and the audit entries of the system are.
pub(crate) const SYSTEM: TenantId = TenantId::from_uuid(uuid::Uuid::nil());
