//! Many rows as one value of a statement, on either back end: a JSON array that the database takes apart. The text of such a
//! statement does not depend on the number of rows, so a connection can prepare it once ([`prepared`](crate::prepared)).

use chrono::{DateTime, Utc};

use crate::{Connection, types::Moment};

/// The fields of the JSON array `parameter` as the relation `r`. `fields` are names with their types on PostgreSQL; SQLite takes
/// values as they are written.
///
/// SQLite numbers parameters by their first appearance in the statement, so that must be their order.
#[must_use]
pub fn relation(connection: &Connection, parameter: &str, fields: &[(&str, &str)]) -> String {
    match connection {
        Connection::Postgres(_) => {
            let typed = fields.iter().map(|(name, kind)| format!("{name} {kind}"));
            let typed: Vec<_> = typed.collect();
            format!(
                "json_to_recordset({parameter}::json) AS r ({})",
                typed.join(", ")
            )
        }
        Connection::Sqlite(_) => {
            let read = fields
                .iter()
                .map(|(name, _)| format!("json_extract(value, '$.{name}') AS {name}"));
            let read: Vec<_> = read.collect();
            format!(
                "(SELECT {} FROM json_each({parameter})) AS r",
                read.join(", ")
            )
        }
    }
}

/// A moment as both back ends read it in a text.
#[must_use]
pub fn moment(at: Moment) -> String {
    let at: DateTime<Utc> = at.into();
    at.format("%F %T%.6f").to_string()
}
