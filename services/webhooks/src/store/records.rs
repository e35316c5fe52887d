//! Many rows as one value of a statement, on either back end: a JSON array that the database takes apart.

use dotmac_platform::db::Connection;

/// What a statement takes the fields of the JSON array `parameter` from, as the relation `r`. `fields` are names with their
/// types on PostgreSQL; SQLite takes values as they are written.
///
/// SQLite numbers parameters by their first appearance in the statement, so that must be their order.
pub(super) fn relation(
    connection: &Connection,
    parameter: &str,
    fields: &[(&str, &str)],
) -> String {
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
pub(super) fn moment(at: dotmac_platform::db::types::Moment) -> String {
    let at: chrono::DateTime<chrono::Utc> = at.into();
    at.format("%F %T%.6f").to_string()
}
