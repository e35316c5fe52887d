//! All queries on the tables of notifications, and nothing else.

pub(crate) mod attachments;
pub(crate) mod deliveries;
pub(crate) mod digests;
pub(crate) mod inbox;
pub(crate) mod lanes;
pub(crate) mod notifications;
pub(crate) mod preferences;
pub(crate) mod push;
pub(crate) mod quiet_hours;
pub(crate) mod reports;
mod schema;
pub(crate) mod suppressions;
pub(crate) mod templates;
pub(crate) mod together;
