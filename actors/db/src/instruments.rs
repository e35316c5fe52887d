//! Metrics of the database, in OpenTelemetry's names for database clients where it has one.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Histogram, Meter},
};

use super::SqlState;

pub(super) fn meter() -> Meter {
    global::meter("dotmac.db")
}

/// Counts an error, by the class of its code.
pub(super) fn failed(state: SqlState) {
    errors().add(
        1,
        &[KeyValue::new("sqlstate_class", state.class().to_owned())],
    );
}

fn errors() -> &'static Counter<u64> {
    static ERRORS: OnceLock<Counter<u64>> = OnceLock::new();
    ERRORS.get_or_init(|| {
        meter()
            .u64_counter("dotmac.database.errors")
            .with_description("Errors of the database, by class of SQLSTATE")
            .build()
    })
}

/// Connection, value, constraint, transaction state, login, conflict, statement, resources, prerequisites, operator,
/// damage: shown as 0 from the beginning, so that the first error of a class is an increase.
const CLASSES: [&str; 11] = [
    "08", "22", "23", "25", "28", "40", "42", "53", "55", "57", "XX",
];

/// Metrics of single statements.
#[derive(Clone)]
pub(super) struct Statements(Histogram<f64>);

impl Statements {
    pub(super) fn new() -> Self {
        Self(
            meter()
                .f64_histogram("db.client.operation.duration")
                .with_unit("s")
                .with_description("Time of single statements, by operation and table")
                .build(),
        )
    }

    pub(super) fn done(&self, labels: &Labels, took: Duration, failed: bool) {
        let labels = if failed { &labels.failed } else { &labels.ok };
        self.0.record(took.as_secs_f64(), labels);
    }
}

/// The attributes of one statement's measurements, made once for all of them.
#[derive(Debug)]
pub(super) struct Labels {
    ok: Vec<KeyValue>,
    failed: Vec<KeyValue>,
}

impl Labels {
    pub(super) fn new(
        system: &'static str,
        operation: &'static str,
        table: Option<&Arc<str>>,
    ) -> Self {
        let of = |outcome: Outcome| {
            let table = table.map(|table| KeyValue::new("db.collection.name", Arc::clone(table)));
            let named = [
                KeyValue::new("db.system.name", system),
                KeyValue::new("db.operation.name", operation),
                KeyValue::new("outcome", outcome.as_str()),
            ];
            named.into_iter().chain(table).collect()
        };
        Self {
            ok: of(Outcome::Ok),
            failed: of(Outcome::Error),
        }
    }
}

/// When the monitor last looked, as the metric shows it; survives restarts of the actor.
#[derive(Clone)]
pub(super) struct Looks {
    epoch: Instant,
    /// Microseconds after `epoch`; 0 for never.
    last: Arc<AtomicU64>,
}

impl Looks {
    /// The one of this process, which the gauge reads.
    pub(super) fn shared() -> Self {
        static SHARED: OnceLock<Looks> = OnceLock::new();
        let new = || Self {
            epoch: Instant::now(),
            last: Arc::default(),
        };
        SHARED.get_or_init(new).clone()
    }

    pub(super) fn looked(&self) {
        self.last
            .store((self.epoch.elapsed().as_micros() as u64).max(1), Relaxed);
    }

    pub(super) fn age(&self) -> Option<Duration> {
        let last = self.last.load(Relaxed);
        (last != 0).then(|| {
            self.epoch
                .elapsed()
                .saturating_sub(Duration::from_micros(last))
        })
    }
}

/// Metrics of pieces of work.
pub(super) struct Instruments {
    system: [KeyValue; 1],
    work: Histogram<f64>,
    waits: Histogram<f64>,
    timeouts: Counter<u64>,
    retries: Counter<u64>,
}

impl Instruments {
    /// For connections to a `system`, as OpenTelemetry names it.
    pub(super) fn new(system: &'static str) -> Self {
        for class in CLASSES {
            errors().add(0, &[KeyValue::new("sqlstate_class", class)]);
        }
        let instruments = Self {
            system: [KeyValue::new("db.system.name", system)],
            work: meter()
                .f64_histogram("dotmac.database.work.duration")
                .with_unit("s")
                .with_description("Time of pieces of work, transactions included, from getting a connection to the end")
                .build(),
            waits: meter()
                .f64_histogram("db.client.connection.wait_time")
                .with_unit("s")
                .with_description("Time that work waited for a connection")
                .build(),
            timeouts: meter()
                .u64_counter("db.client.connection.timeouts")
                .with_description("Work that was refused because no connection became free in time")
                .build(),
            retries: meter()
                .u64_counter("dotmac.database.retries")
                .with_description("Repeated transactions after a conflict")
                .build(),
        };
        instruments.timeouts.add(0, &[]);
        instruments.retries.add(0, &[]);
        instruments
    }

    pub(super) fn waited(&self, took: Duration) {
        self.waits.record(took.as_secs_f64(), &self.system);
    }

    pub(super) fn timed_out(&self) {
        self.timeouts.add(1, &[]);
    }

    pub(super) fn retried(&self) {
        self.retries.add(1, &[]);
    }

    pub(super) fn worked(&self, operation: &'static str, took: Duration, outcome: Outcome) {
        let attributes = [
            KeyValue::new("work", operation),
            KeyValue::new("outcome", outcome.as_str()),
        ];
        self.work.record(took.as_secs_f64(), &attributes);
    }
}

/// The result of a statement or a piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    /// The work returned its own error; the database did what it was asked for.
    Rejected,
    Error,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Rejected => "rejected",
            Self::Error => "error",
        }
    }
}

/// Counts work without authentication, by its reason.
pub(super) fn system_scope(why: &'static str) {
    static SCOPES: OnceLock<Counter<u64>> = OnceLock::new();
    let scopes = SCOPES.get_or_init(|| {
        meter()
            .u64_counter("dotmac.database.system_scopes")
            .with_description(
                "Scopes of tenants that system code opened without authentication, by reason",
            )
            .build()
    });
    scopes.add(1, &[KeyValue::new("why", why)]);
}
