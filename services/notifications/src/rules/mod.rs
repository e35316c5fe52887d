//! What may happen with notifications. Each rule is a function over a transaction.

pub(crate) mod act;
pub(crate) mod deliver;
pub(crate) mod judge;
pub(crate) mod outbox;
pub(crate) mod preferences;
pub(crate) mod publish;
pub(crate) mod recipients;
pub(crate) mod send;
pub(crate) mod settle;
pub(crate) mod suppress;
pub(crate) mod templates;
