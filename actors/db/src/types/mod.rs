//! Values that are the same on both back ends: typed ids, moments in UTC, JSON.
//!
//! One `table!` serves both, so each has one SQL type, of those in [`sql`]: `Uuid` for an id, `Timestamp` for a
//! moment, `Json` for the rest.

mod id;
mod json;
mod moment;
#[cfg(feature = "schema")]
mod schema;
pub mod sql;

pub use id::Id;
pub use json::Json;
pub use moment::Moment;
