//! The types of columns that are the same on both back ends, for `table!`.
//!
//! ```
//! diesel::table! {
//!     use dotmac_db::types::sql::*;
//!
//!     note (id) {
//!         id -> Uuid,
//!         text -> Text,
//!         tags -> Json,
//!         at -> Timestamp,
//!     }
//! }
//! ```
//!
//! Types that are missing here are absent on one back end, or stored differently.

use diesel::{query_builder::QueryId, sql_types::SqlType};

pub use diesel::sql_types::{
    BigInt, Binary, Bool, Date, Double, Float, Integer, Json, Nullable, SmallInt, Text, Time,
    Timestamp,
};

/// An [`Id`](super::Id): `uuid` on PostgreSQL, `TEXT` on SQLite.
#[derive(Debug, Clone, Copy, Default, QueryId, SqlType)]
#[diesel(postgres_type(oid = 2950, array_oid = 2951))]
#[diesel(sqlite_type(name = "Text"))]
pub struct Uuid;
