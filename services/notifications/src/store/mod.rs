//! All queries on the tables of notifications, and nothing else.

pub(crate) mod deliveries;
pub(crate) mod inbox;
pub(crate) mod notifications;
pub(crate) mod preferences;
mod schema;
pub(crate) mod suppressions;
pub(crate) mod templates;
