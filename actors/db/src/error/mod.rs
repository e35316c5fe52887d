//! Errors of a database, classified by remedy.

mod open;
mod query;

pub use open::OpenError;
pub use query::{DbError, OptionalExtension};
