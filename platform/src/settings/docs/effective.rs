//! The effective settings, for `dotmac config`.

use std::fmt::Write as _;

use serde::Serialize;

use crate::settings::engine::declare::DefaultText;
use crate::settings::{Entry, Origin};
use crate::shown::printable;

/// One key as it is in effect. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Full name of the key.
    pub key: String,
    /// The value, secrets and passwords as `[redacted]`; `None` if it is not set.
    pub value: Option<String>,
    /// Where the value came from.
    pub origin: String,
    /// The value of an unset key, or how it is found; `None` if then it is not set.
    pub default: Option<String>,
    /// The meaning of the key.
    pub doc: String,
    /// The module whose it is; `None` for the platform's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<&'static str>,
}

impl From<&Entry> for Row {
    fn from(entry: &Entry) -> Self {
        let default = match entry.spec.default {
            DefaultText::Unset => None,
            DefaultText::Fixed(text) => Some(text.to_owned()),
            DefaultText::Computed { described, .. } => Some(described.replace('`', "")),
        };
        Self {
            key: entry.key.clone(),
            value: Some(entry.shown()).filter(|value| !value.is_empty()),
            origin: entry.origin.to_string(),
            default,
            doc: entry.spec.doc(),
            module: entry.module,
        }
    }
}

/// Three columns for a terminal: key, value, origin. `-` stands for a key that is not set.
pub fn as_table(rows: &[Row]) -> String {
    let cells = rows.iter().map(|row| {
        let value = row.value.as_deref().unwrap_or("-");
        [
            row.key.clone(),
            printable(value).into_owned(),
            printable(&row.origin).into_owned(),
        ]
    });
    let head = ["KEY", "VALUE", "ORIGIN"].map(str::to_owned);
    let lines: Vec<[String; 3]> = std::iter::once(head).chain(cells).collect();
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or_default()
    };
    let (keys, values) = (width(0), width(1));
    lines
        .iter()
        .map(|[key, value, origin]| format!("{key:keys$}  {value:values$}  {origin}\n"))
        .collect()
}

/// A JSON array with an object for each key.
///
/// # Errors
///
/// If serialisation fails, which for these types it does not.
pub fn as_json(rows: &[Row]) -> serde_json::Result<String> {
    serde_json::to_string_pretty(rows)
}

/// `KEY=value` lines that a shell and a `.env` file read alike. An unset key, or a secret that cannot be shown, is a
/// comment.
pub fn as_env(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let line = match &row.value {
            None => format!("#{}=", row.key),
            Some(value) if value.contains("[redacted]") => format!("#{}={value}", row.key),
            Some(value) if row.origin == Origin::Default.to_string() => {
                format!("#{}={}", row.key, quoted(value))
            }
            Some(value) => format!("{}={}", row.key, quoted(value)),
        };
        // Writing to a String cannot fail.
        writeln!(text, "{line}").unwrap_or_default();
    }
    text
}

fn quoted(value: &str) -> String {
    let is_plain = value
        .chars()
        .all(|it| it.is_ascii_alphanumeric() || "-_./:,=+@%".contains(it));
    if is_plain {
        value.to_owned()
    } else {
        // A single quote ends the quoted part, stands escaped, and a new part begins.
        format!("'{}'", value.replace('\'', r"'\''"))
    }
}
