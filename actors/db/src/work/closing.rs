//! What is written in one go with the commit of a transaction: after all else, and without a round trip to the server, or a
//! change of threads, of its own.
//!
//! On PostgreSQL that is a call of a function for each row, which a migration has made and which takes the columns as its
//! arguments. The calls are sent with `COMMIT` in one message, and where one fails the server does not get to the commit. On
//! SQLite the rows are inserted on the thread that commits.

use std::fmt::{self, Display, Write as _};

use diesel::{QueryResult, SqliteConnection};

type Step = Box<dyn FnOnce(&mut SqliteConnection) -> QueryResult<()> + Send>;

/// A row that PostgreSQL inserts in one go with a commit, by [`insert_with_commit!`](crate::insert_with_commit).
pub trait RowWithCommit {
    /// Adds its columns, in the order of the parameters of the function.
    fn arguments(&self, to: &mut Arguments<'_>);
}

/// The arguments of a function of PostgreSQL, each a literal.
pub struct Arguments<'a> {
    text: &'a mut String,
    is_first: bool,
}

impl Arguments<'_> {
    /// Adds a value, as PostgreSQL reads its type. It must not have the character NUL, which no message can carry: the commit
    /// would not be sent, and be reported as [`DbError::OutcomeUnknown`](crate::DbError::OutcomeUnknown).
    pub fn add(&mut self, value: impl Display) -> &mut Self {
        self.begin();
        self.text.push('\'');
        // Writing to a text does not fail.
        write!(Quoted(self.text), "{value}").ok();
        self.text.push('\'');
        self
    }

    /// The same for a value that may be `NULL`.
    pub fn add_if(&mut self, value: Option<impl Display>) -> &mut Self {
        match value {
            Some(value) => self.add(value),
            None => self.null(),
        }
    }

    /// Adds bytes.
    pub fn add_bytes(&mut self, bytes: Option<&[u8]>) -> &mut Self {
        let Some(bytes) = bytes else {
            return self.null();
        };
        self.begin();
        self.text.push_str(r"'\x");
        for byte in bytes {
            write!(self.text, "{byte:02x}").ok();
        }
        self.text.push('\'');
        self
    }

    fn null(&mut self) -> &mut Self {
        self.begin();
        self.text.push_str("NULL");
        self
    }

    fn begin(&mut self) {
        if !std::mem::take(&mut self.is_first) {
            self.text.push_str(", ");
        }
    }
}

/// Doubles quotes, so that no text ends its literal. Connections have `standard_conforming_strings`, so nothing else does.
struct Quoted<'a>(&'a mut String);

impl fmt::Write for Quoted<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (n, part) in text.split('\'').enumerate() {
            if n > 0 {
                self.0.push_str("''");
            }
            self.0.push_str(part);
        }
        Ok(())
    }
}

/// What a transaction has for its end.
#[derive(Default)]
pub(crate) struct Closing {
    /// Calls of functions, for PostgreSQL.
    calls: String,
    /// The same for SQLite.
    steps: Vec<Step>,
}

impl Closing {
    /// Has PostgreSQL call `function` with the columns of `row`.
    pub(super) fn call(&mut self, function: &'static str, row: &impl RowWithCommit) {
        if !self.calls.is_empty() {
            self.calls.push_str(", ");
        }
        self.calls.push_str(function);
        self.calls.push('(');
        row.arguments(&mut Arguments {
            text: &mut self.calls,
            is_first: true,
        });
        self.calls.push(')');
    }

    /// Has SQLite's thread run `step`.
    pub(super) fn run(
        &mut self,
        step: impl FnOnce(&mut SqliteConnection) -> QueryResult<()> + Send + 'static,
    ) {
        self.steps.push(Box::new(step));
    }

    /// Whether there is nothing but the commit.
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.steps.is_empty()
    }

    /// All of it with the commit, as one message to PostgreSQL; `None` where there is nothing else.
    pub(crate) fn message(&self) -> Option<String> {
        (!self.calls.is_empty()).then(|| format!("SELECT {}; COMMIT", self.calls))
    }

    /// Does it on SQLite's thread.
    pub(crate) fn take_steps(self, connection: &mut SqliteConnection) -> QueryResult<()> {
        self.steps.into_iter().try_for_each(|step| step(connection))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Row(&'static str, Option<i32>, Option<&'static [u8]>);

    impl RowWithCommit for Row {
        fn arguments(&self, to: &mut Arguments<'_>) {
            to.add(self.0).add_if(self.1).add_bytes(self.2);
        }
    }

    fn message(rows: &[Row]) -> String {
        let mut closing = Closing::default();
        for row in rows {
            closing.call("put", row);
        }
        closing.message().unwrap_or_default()
    }

    #[test]
    fn the_calls_of_all_rows_are_one_message_with_the_commit() {
        let closing = Closing::default();
        assert_eq!((closing.message(), closing.is_empty()), (None, true));
        let rows = [Row("milk", Some(7), Some(&[1, 0xab])), Row("", None, None)];
        assert_eq!(
            message(&rows),
            r"SELECT put('milk', '7', '\x01ab'), put('', NULL, NULL); COMMIT"
        );
    }

    #[test]
    fn no_text_ends_its_literal() {
        for (text, literal) in [
            ("it's", "'it''s'"),
            ("'); DROP TABLE note; --", "'''); DROP TABLE note; --'"),
            (r"\'", r"'\'''"),
            ("''", "''''''"),
            ("'", "''''"),
            ("ß\"\n", "'ß\"\n'"),
        ] {
            let expected = format!("SELECT put({literal}, NULL, NULL); COMMIT");
            assert_eq!(message(&[Row(text, None, None)]), expected);
        }
    }
}
