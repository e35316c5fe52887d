//! What may happen with notifications. Each rule is a function over a transaction.

pub(crate) mod act;
mod attempt;
pub(crate) mod bounce;
pub(crate) mod call;
pub(crate) mod deliver;
pub(crate) mod digest;
pub(crate) mod judge;
mod loaded;
pub(crate) mod outbox;
pub(crate) mod preferences;
pub(crate) mod publish;
pub(crate) mod push;
pub(crate) mod quiet_hours;
pub(crate) mod recipients;
mod said;
pub(crate) mod send;
pub(crate) mod settle;
pub(crate) mod suppress;
pub(crate) mod templates;
