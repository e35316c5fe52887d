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
use tracing::{Span, field::Empty, info_span, record_all, warn};

use super::{Statement, StatementCache};
use crate::{SqlState, instruments::Statements, monitor::ConnectionState, statement};

/// The shared state of a pool's observers.
#[derive(Clone)]
pub(crate) struct Observing {
    pub(crate) system: &'static str,
    pub(crate) slow: Duration,
    pub(crate) statements: Statements,
}

/// Observes a connection through diesel.
pub(crate) struct Observer {
    observing: Observing,
    connection_state: Arc<ConnectionState>,
    cache: StatementCache,
    under_way: Option<UnderWay>,
}

/// Statements of one connection follow each other, so there is one at most.
///
/// Its text is read at its end: before that diesel builds it for each call, which would cost more than all else here.
struct UnderWay {
    began: Instant,
    span: Span,
    errors_before: Option<SqlState>,
}

impl Observer {
    pub(crate) fn new(observing: Observing, connection_state: Arc<ConnectionState>) -> Self {
        Self {
            cache: StatementCache::new(observing.system),
            observing,
            connection_state,
            under_way: None,
        }
    }

    /// A statement that was given up, or never sent, has no end and no name.
    fn abandon(&mut self) {
        if let Some(UnderWay { span, .. }) = self.under_way.take() {
            record_all!(span, otel.status_code = "ERROR", error.type = "abandoned");
        }
    }

    fn begin(&mut self) {
        self.abandon();
        let span = info_span!(
            "statement",
            otel.name = Empty,
            otel.kind = "client",
            otel.status_code = Empty,
            db.system.name = self.observing.system,
            db.operation.name = Empty,
            db.collection.name = Empty,
            db.query.summary = Empty,
            db.response.status_code = Empty,
            error.type = Empty,
        );
        self.under_way = Some(UnderWay {
            began: Instant::now(),
            span,
            errors_before: self.connection_state.last(),
        });
    }

    /// The code of the error that ended the statement, if one did.
    fn failure(&self, error: Option<&QueryError>, before: Option<SqlState>) -> Option<SqlState> {
        if self.observing.system == "sqlite" {
            let state = SqlState::of_sqlite(error?)?;
            self.connection_state.heard(state);
            return Some(state);
        }
        // Also without an error here: that of a query comes with its rows, after this.
        self.connection_state
            .last()
            .filter(|state| Some(*state) != before)
    }
}

impl Instrumentation for Observer {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartQuery { .. } => self.begin(),
            InstrumentationEvent::FinishQuery { query, error, .. } => {
                let Some(ended) = self.under_way.take() else {
                    return;
                };
                let took = ended.began.elapsed();
                let statement = self.cache.statement(query);
                if !ended.span.is_disabled() {
                    name(&ended.span, &statement);
                }
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
                    slow, statements, ..
                } = &self.observing;
                statements.done(&statement.labels, took, failed.is_some());
                if took >= *slow {
                    let _inside = ended.span.enter();
                    warn!(
                        duration_ms = took.as_millis() as u64,
                        operation = statement.operation,
                        table = statement.table.as_deref(),
                        statement = statement::text(query),
                        "slow statement"
                    );
                }
            }
            _ => {}
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.abandon();
    }
}

fn name(span: &Span, statement: &Statement) {
    let summary = statement.summary();
    record_all!(
        span,
        otel.name = summary.as_str(),
        db.operation.name = statement.operation,
        db.collection.name = statement.table.as_deref(),
        db.query.summary = summary.as_str(),
    );
}
