//! What is written in one go with the commit of a transaction: after all else, and without a round trip to the server, or a
//! change of threads, of its own.
//!
//! On PostgreSQL that is a call of a function, which a migration has made and which takes rows as JSON. It is sent with `COMMIT`
//! in one message, and where it fails the server does not get to the second. On SQLite the rows are inserted on the thread that
//! commits.

use diesel::{QueryResult, SqliteConnection};
use serde::Serialize;

type Step = Box<dyn FnOnce(&mut SqliteConnection) -> QueryResult<()> + Send>;

/// What a transaction has for its end.
#[derive(Default)]
pub(crate) struct Closing {
    /// Calls of functions, for PostgreSQL.
    calls: String,
    /// The same for SQLite.
    steps: Vec<Step>,
}

impl Closing {
    /// Has PostgreSQL call `function` with `rows` as a text of JSON.
    pub(super) fn call(
        &mut self,
        function: &'static str,
        rows: &impl Serialize,
    ) -> serde_json::Result<()> {
        let rows = serde_json::to_string(rows)?;
        if !self.calls.is_empty() {
            self.calls.push_str(", ");
        }
        self.calls.push_str(function);
        // No text in it can end the literal: in JSON there are quotes in strings only, where they can be written so.
        self.calls.push_str("('");
        self.calls.push_str(&rows.replace('\'', "\\u0027"));
        self.calls.push_str("')");
        Ok(())
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

    #[test]
    fn no_text_ends_the_literal_and_every_text_comes_back() {
        let texts = [
            "it's",
            "'); DROP TABLE note; --",
            "\\'",
            "''",
            "\u{0}",
            "ß\"\n",
        ];
        let mut closing = Closing::default();
        assert_eq!((closing.message(), closing.is_empty()), (None, true));
        closing.call("one", &texts).unwrap_or_default();
        closing.call("two", &[1]).unwrap_or_default();
        let message = closing.message().unwrap_or_default();
        let parts: Vec<_> = message.split('\'').collect();
        let [before, rows, between, "[1]", "); COMMIT"] = parts[..] else {
            unreachable!("{message}")
        };
        assert_eq!((before, between), ("SELECT one(", "), two("));
        let read: Vec<String> = serde_json::from_str(rows).unwrap_or_default();
        assert_eq!(read, texts);
    }
}
