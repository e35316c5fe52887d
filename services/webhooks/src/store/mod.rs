//! All queries: a file for each table, and `claims` and `leases` for what the sender does with several of them.

pub(crate) mod attempts;
pub(crate) mod claims;
pub(crate) mod deliveries;
pub(crate) mod endpoints;
pub(crate) mod lanes;
pub(crate) mod leases;
pub(crate) mod messages;
mod schema;
pub(crate) mod secrets;
pub(crate) mod states;
