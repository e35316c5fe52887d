//! Values that are the same on both back ends: typed ids, moments in UTC, JSON, and by [`words!`](crate::words) one of a
//! few words.
//!
//! One `table!` serves both, so each has one SQL type, of those in [`sql`]: `Uuid` for an id, `Timestamp` for a
//! moment, `Json` for the rest.

mod id;
mod json;
mod moment;
#[cfg(feature = "schema")]
mod schema;
pub mod sql;
mod words;

pub use id::Id;
pub use json::Json;
pub use moment::Moment;
pub use words::UnknownWord;
