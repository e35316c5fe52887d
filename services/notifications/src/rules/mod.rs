//! What may happen with notifications. Each rule is a function over a transaction.

pub(crate) mod act;
mod attachments;
mod attempt;
pub(crate) mod call;
pub(crate) mod deliver;
pub(crate) mod digest;
mod dsn;
pub(crate) mod judge;
mod lane;
mod loaded;
pub(crate) mod outbox;
pub(crate) mod preferences;
pub(crate) mod publish;
pub(crate) mod push;
pub(crate) mod quiet_hours;
pub(crate) mod recipients;
pub(crate) mod report;
mod said;
pub(crate) mod send;
pub(crate) mod settle;
pub(crate) mod suppress;
pub(crate) mod templates;
pub(crate) mod together;
