//! Operation and table of a statement, for metrics and spans; and its text without values, for the log.
//!
//! Read off the beginning of the text, not parsed: good enough for names on a chart, and cheap enough to be
//! done for every statement.

mod observer;
mod prepared;

pub(crate) use observer::{Observer, Observing};
pub use prepared::{Prepared, prepared};

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
    sync::Arc,
};

use diesel::connection::DebugQuery;

use super::instruments::Labels;

/// Longest text in the log.
const TEXT_KEPT: usize = 1000;

/// Its operation, as a word of a closed set.
#[derive(Debug)]
pub(super) struct Statement {
    /// The first word, such as `SELECT`; `OTHER` if it is none that we know.
    pub(super) operation: &'static str,
    /// The first table that it names, if it names one.
    pub(super) table: Option<Arc<str>>,
    pub(super) labels: Labels,
}

const OPERATIONS: [&str; 19] = [
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT",
    "RELEASE",
    "WITH",
    "SET",
    "SHOW",
    "PRAGMA",
    "CREATE",
    "ALTER",
    "DROP",
    "VACUUM",
    "LOCK",
    "CALL",
];

/// Longer names are cut by PostgreSQL as well.
const NAME_KEPT: usize = 63;

/// Statements that a connection to a `system` has run. Most come again and again, and are read off once.
pub(super) struct StatementCache {
    system: &'static str,
    seen: HashMap<Arc<str>, Arc<Statement>>,
    /// The last one is often the next as well, and is found without a look into the table.
    last: Option<(Arc<str>, Arc<Statement>)>,
}

/// Most statements that are kept for each connection, and the longest text of one, in bytes.
const KNOWN: usize = 256;
const KNOWN_TEXT: usize = 1000;

impl StatementCache {
    pub(super) fn new(system: &'static str) -> Self {
        Self {
            system,
            seen: HashMap::new(),
            last: None,
        }
    }

    pub(super) fn statement(&mut self, query: &dyn DebugQuery) -> Arc<Statement> {
        let system = self.system;
        let mut seen = FirstPiece(None, |text: &str| self.of_text(text));
        // Ends with an error on purpose: the text is followed by the values, which are not needed here.
        write!(seen, "{query}").ok();
        seen.0
            .unwrap_or_else(|| Arc::new(Statement::of_text("", system)))
    }

    fn of_text(&mut self, text: &str) -> Arc<Statement> {
        let key = without_values(text);
        if let Some((last, statement)) = &self.last
            && **last == *key
        {
            return Arc::clone(statement);
        }
        if let Some((key, statement)) = self.seen.get_key_value(key) {
            self.last = Some((Arc::clone(key), Arc::clone(statement)));
            return Arc::clone(statement);
        }
        let statement = Arc::new(Statement::of_text(text, self.system));
        if key.len() <= KNOWN_TEXT && self.seen.len() < KNOWN {
            self.seen.insert(key.into(), Arc::clone(&statement));
        }
        statement
    }
}

/// The end of a message that has more in it than the commit.
const WITH_COMMIT: &str = "; COMMIT";

/// The text by which a statement is known again. The beginning of a transaction has its tenant in it, its end what goes with the
/// commit: all others have such values apart.
fn without_values(text: &str) -> &str {
    match text.split_once('\'') {
        Some((before, _)) if text.starts_with("BEGIN") || text.ends_with(WITH_COMMIT) => before,
        _ => text,
    }
}

impl Statement {
    fn of_text(text: &str, system: &'static str) -> Self {
        if text.ends_with(WITH_COMMIT) {
            return Self::on("COMMIT", None, system);
        }
        let mut words = text.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        let operation = OPERATIONS
            .into_iter()
            .find(|cache| cache.eq_ignore_ascii_case(first.trim_end_matches(';')))
            .unwrap_or("OTHER");
        let before_table = match operation {
            "SELECT" | "DELETE" | "WITH" => "FROM",
            "INSERT" => "INTO",
            "UPDATE" => return Self::on(operation, words.next(), system),
            _ => return Self::on(operation, None, system),
        };
        let mut words = words.skip_while(|word| !word.eq_ignore_ascii_case(before_table));
        Self::on(operation, words.nth(1), system)
    }

    fn on(operation: &'static str, table: Option<&str>, system: &'static str) -> Self {
        let named = |name: &str| {
            let name = name.split(['(', ',', ';', ')']).next().unwrap_or_default();
            let name: String = name.chars().filter(|c| !matches!(c, '"' | '`')).collect();
            let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$');
            let is_short = !name.is_empty() && name.len() <= NAME_KEPT;
            (is_short && name.chars().all(is_name)).then(|| Arc::from(name))
        };
        let table = table.and_then(named);
        Self {
            labels: Labels::new(system, operation, table.as_ref()),
            operation,
            table,
        }
    }

    /// Both in one, as a span is named.
    pub(super) fn summary(&self) -> String {
        match &self.table {
            Some(table) => format!("{} {table}", self.operation),
            None => self.operation.to_owned(),
        }
    }
}

/// The text without the values that were bound to it and without the literals in it.
pub(super) fn text(query: &dyn DebugQuery) -> String {
    let mut seen = FirstPiece(None, without_literals);
    write!(seen, "{query}").ok();
    seen.0.unwrap_or_default()
}

fn without_literals(text: &str) -> String {
    let mut kept = String::new();
    for (n, part) in text.split('\'').enumerate() {
        if n % 2 == 0 {
            kept.push_str(part);
        } else {
            kept.push_str("'?'");
        }
        if kept.len() > TEXT_KEPT {
            kept.truncate(kept.floor_char_boundary(TEXT_KEPT));
            kept.push('…');
            break;
        }
    }
    kept
}

/// diesel writes a query's text as one piece and then the values bound to it: keeps what is made of the
/// first piece, and refuses the second.
struct FirstPiece<T, F>(Option<T>, F);

impl<T, F: FnMut(&str) -> T> fmt::Write for FirstPiece<T, F> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if self.0.is_some() {
            return Err(fmt::Error);
        }
        self.0 = Some((self.1)(piece));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use diesel::{debug_query, prelude::*, sql_query, sqlite::Sqlite};

    diesel::table! { note (id) { id -> BigInt, text -> Text, } }

    fn summary(text: &str) -> String {
        Statement::of_text(text, "sqlite").summary()
    }

    #[test]
    fn operation_and_table_are_read_off_the_text() {
        for (text, expected) in [
            (
                "SELECT \"note\".\"id\" FROM \"note\" WHERE (\"note\".\"id\" = $1)",
                "SELECT note",
            ),
            ("select count(*) from note", "SELECT note"),
            ("INSERT INTO `note` (`id`) VALUES (?)", "INSERT note"),
            ("INSERT INTO note(id) VALUES (1)", "INSERT note"),
            ("UPDATE \"app\".\"note\" SET", "UPDATE app.note"),
            ("DELETE  FROM \"note\"", "DELETE note"),
            ("BEGIN IMMEDIATE", "BEGIN"),
            ("COMMIT;", "COMMIT"),
            ("SELECT event_add('1'), event_add('2'); COMMIT", "COMMIT"),
            ("SELECT 1", "SELECT"),
            ("SELECT * FROM (SELECT 1) AS x", "SELECT"),
            ("explain select 1", "OTHER"),
            ("", "OTHER"),
        ] {
            assert_eq!(summary(text), expected, "{text}");
        }
    }

    #[test]
    fn a_statement_is_known_again_whatever_its_values() {
        let mut cache = StatementCache::new("postgresql");
        for n in 0..1000 {
            for (text, expected) in [
                (
                    format!("BEGIN; SET LOCAL dotmac.tenant_id = '{n}'"),
                    "BEGIN",
                ),
                (format!("SELECT event_add('{n}'); COMMIT"), "COMMIT"),
            ] {
                assert_eq!(cache.of_text(&text).summary(), expected, "{text}");
            }
        }
        assert_eq!(cache.seen.len(), 2);
    }

    #[test]
    fn values_are_in_neither_name_nor_text() {
        let query = note::table.filter(note::text.eq("hunter2"));
        let query = debug_query::<Sqlite, _>(&query);
        let mut cache = StatementCache::new("sqlite");
        let other = sql_query("DELETE FROM other WHERE text = 'hunter2'");
        let other = debug_query::<Sqlite, _>(&other);
        for _ in 0..3 {
            assert_eq!(cache.statement(&query).summary(), "SELECT note");
            assert_eq!(cache.statement(&query).summary(), "SELECT note");
            assert_eq!(cache.statement(&other).summary(), "DELETE other");
        }
        let shown = text(&query);
        assert!(
            shown.contains("WHERE") && !shown.contains("hunter2"),
            "{shown}"
        );

        let query = sql_query("ALTER ROLE me PASSWORD 'it''s hunter2' VALID UNTIL 'soon'");
        let shown = text(&debug_query::<Sqlite, _>(&query));
        assert!(
            shown.starts_with("ALTER ROLE me PASSWORD") && !shown.contains("hunter2"),
            "{shown}"
        );
    }
}
