//! Sees every statement of one connection: a span in the request's trace, a measurement, and a line in the
//! log if it was slow. Never the values that were bound.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use diesel::{
    connection::{Instrumentation, InstrumentationEvent},
    result::Error as QueryError,
};
use tracing::{Span, field, info_span, warn};

use super::{
    SqlState,
    alarms::Line,
    instruments::Statements,
    statement::{self, Known, Statement},
};

/// What all observers of one pool share.
#[derive(Clone)]
pub(super) struct Observing {
    pub(super) system: &'static str,
    pub(super) slow: Duration,
    pub(super) statements: Statements,
}

/// Told by diesel what its connection does.
pub(super) struct Observer {
    observing: Observing,
    line: Arc<Line>,
    known: Known,
    under_way: Option<UnderWay>,
}

/// Statements of one connection follow each other, so there is one at most.
struct UnderWay {
    began: Instant,
    statement: Statement,
    span: Span,
    errors_before: Option<SqlState>,
}

impl Observer {
    pub(super) fn new(observing: Observing, line: Arc<Line>) -> Self {
        Self {
            observing,
            line,
            known: Known::default(),
            under_way: None,
        }
    }

    fn begin(&mut self, statement: Statement) {
        // The fields are made only if somebody wants the span.
        let span = info_span!(
            "statement",
            otel.name = statement.summary(),
            otel.kind = "client",
            otel.status_code = field::Empty,
            db.system.name = self.observing.system,
            db.operation.name = statement.operation,
            db.collection.name = statement.table.as_deref(),
            db.query.summary = statement.summary(),
            db.response.status_code = field::Empty,
            error.type = field::Empty,
        );
        self.under_way = Some(UnderWay {
            began: Instant::now(),
            statement,
            span,
            errors_before: self.line.last(),
        });
    }

    /// The code of the error that ended the statement, if one did.
    fn failure(&self, error: Option<&QueryError>, before: Option<SqlState>) -> Option<SqlState> {
        if self.observing.system == "sqlite" {
            let state = SqlState::of_sqlite(error?)?;
            self.line.heard(state);
            return Some(state);
        }
        // Also without an error here: that of a query comes with its rows, after this.
        self.line.last().filter(|state| Some(*state) != before)
    }
}

impl Instrumentation for Observer {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartQuery { query, .. } => {
                let statement = self.known.statement(query);
                self.begin(statement);
            }
            InstrumentationEvent::FinishQuery { query, error, .. } => {
                let Some(ended) = self.under_way.take() else {
                    return;
                };
                let took = ended.began.elapsed();
                let state = self.failure(error, ended.errors_before);
                let failed = match (&state, error) {
                    (Some(state), _) => Some(state.as_str()),
                    (None, Some(_)) => Some("client"),
                    (None, None) => None,
                };
                if let Some(failed) = failed {
                    ended.span.record("otel.status_code", "ERROR");
                    ended.span.record("error.type", failed);
                    if let Some(state) = &state {
                        ended.span.record("db.response.status_code", state.as_str());
                    }
                }
                let Observing {
                    system,
                    slow,
                    statements,
                } = &self.observing;
                statements.done(system, &ended.statement, took, failed.is_some());
                if took >= *slow {
                    let _inside = ended.span.enter();
                    warn!(
                        duration_ms = took.as_millis() as u64,
                        operation = ended.statement.operation,
                        table = ended.statement.table.as_deref(),
                        statement = statement::text(query),
                        "slow statement"
                    );
                }
            }
            _ => {}
        }
    }
}
