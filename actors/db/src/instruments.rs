//! Metrics of the database, in OpenTelemetry's names for database clients where it has one.

use std::{
    sync::{
        Arc, Mutex, Once, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Histogram, Meter},
};

use super::{ModuleLoad, Pool, SqlState, pool::Bulkhead};
use dotmac_supervision::Published;

fn meter() -> Meter {
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

    fn age(&self) -> Option<Duration> {
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

/// Modules whose load is shown.
static MODULES: Mutex<Vec<Weak<Bulkhead>>> = Mutex::new(Vec::new());

/// The present use of the database by each module, in the order of their creation.
#[must_use]
pub fn module_loads() -> Vec<ModuleLoad> {
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    modules.retain(|module| module.strong_count() > 0);
    let there = modules.iter().filter_map(Weak::upgrade);
    there.map(|module| module.load()).collect()
}

/// Shows the load of `module` while it lives.
pub(super) fn observe_module(module: &Arc<Bulkhead>) {
    static GAUGE: Once = Once::new();
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    modules.push(Arc::downgrade(module));
    drop(modules);
    GAUGE.call_once(|| {
        meter()
            .i64_observable_up_down_counter("dotmac.database.module.connections")
            .with_unit("{connection}")
            .with_description("Database connections by module: in use, and work that waits for one")
            .with_callback(|gauge| {
                for load in module_loads() {
                    for (state, count) in [("used", load.used), ("waiting", load.waiting)] {
                        let labels = [
                            KeyValue::new("module", load.module),
                            KeyValue::new("state", state),
                        ];
                        gauge.observe(count as i64, &labels);
                    }
                }
            })
            .build();
    });
}

/// Has the gauges read from `pool`: to be called once for each database.
pub(super) fn observe(pool: &Published<Pool>) {
    let status = {
        let pool = pool.clone();
        move || pool.get().map(|pool| pool.status())
    };
    let (counts, waiting, most) = (status.clone(), status.clone(), status);
    meter()
        .i64_observable_up_down_counter("db.client.connection.count")
        .with_unit("{connection}")
        .with_description("Connections to the database, idle and used")
        .with_callback(move |gauge| {
            let (idle, used) = counts().map_or((0, 0), |status| (status.idle, status.used));
            gauge.observe(idle as i64, &[KeyValue::new("state", "idle")]);
            gauge.observe(used as i64, &[KeyValue::new("state", "used")]);
        })
        .build();
    meter()
        .i64_observable_up_down_counter("db.client.connection.pending_requests")
        .with_unit("{request}")
        .with_description("Work that waits for a connection")
        .with_callback(move |gauge| {
            gauge.observe(waiting().map_or(0, |status| status.waiting) as i64, &[]);
        })
        .build();
    meter()
        .i64_observable_up_down_counter("db.client.connection.max")
        .with_unit("{connection}")
        .with_description("Limit of connections")
        .with_callback(move |gauge| {
            gauge.observe(most().map_or(0, |status| status.max) as i64, &[]);
        })
        .build();
    let looks = Looks::shared();
    meter()
        .f64_observable_gauge("dotmac.database.check.age")
        .with_unit("s")
        .with_description("Time since the last check of the database")
        .with_callback(move |gauge| {
            if let Some(age) = looks.age() {
                gauge.observe(age.as_secs_f64(), &[]);
            }
        })
        .build();
}
