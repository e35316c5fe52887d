//! The steps of a check, their time and result, as a table.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use crate::cli;

/// The operation.
#[derive(Default)]
pub(super) struct Table {
    pub(super) rows: Vec<Row>,
}

pub(super) struct Row {
    what: String,
    took: Duration,
    pub(super) outcome: Outcome,
    pub(super) words: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Good,
    /// Not there, and need not be.
    Absent,
    /// It works, and something that protects it is missing.
    Weak,
    Failed,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Absent => "absent",
            Self::Weak => "weak",
            Self::Failed => "FAILED",
        }
    }
}

impl Table {
    /// Tries something and notes what came of it; what it brought, if it went well.
    pub(super) async fn attempt<T, E>(
        &mut self,
        what: impl Into<String>,
        attempt: impl Future<Output = Result<(T, String), E>>,
        explain: impl FnOnce(E) -> String,
    ) -> Option<T> {
        let begun = Instant::now();
        let (brought, outcome, words) = match attempt.await {
            Ok((value, words)) => (Some(value), Outcome::Good, words),
            Err(error) => (None, Outcome::Failed, explain(error)),
        };
        self.rows.push(Row {
            what: what.into(),
            took: begun.elapsed(),
            outcome,
            words,
        });
        brought
    }

    pub(super) fn note(&mut self, what: &str, outcome: Outcome, words: impl Into<String>) {
        self.rows.push(Row {
            what: what.to_owned(),
            took: Duration::ZERO,
            outcome,
            words: words.into(),
        });
    }

    pub(super) fn print(&self) {
        let width = self.rows.iter().map(|row| row.what.chars().count()).max();
        let width = width.unwrap_or_default();
        for Row {
            what,
            took,
            outcome,
            words,
        } in &self.rows
        {
            let (outcome, took) = (outcome.as_str(), took.as_millis());
            cli::print(&format!(
                "{outcome:6}  {what:width$}  {took:>5} ms  {words}"
            ));
        }
    }
}
