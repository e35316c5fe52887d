//! What may happen with webhooks. Each rule is a function over a transaction of one tenant.

pub(crate) mod deliveries;
pub(crate) mod endpoints;
pub(crate) mod headers;
pub(crate) mod secrets;
pub(crate) mod stats;
