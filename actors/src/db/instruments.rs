//! What the database is measured by, in OpenTelemetry's names for database clients.

use std::time::Duration;

use opentelemetry::{
    KeyValue, global,
    metrics::{Histogram, ObservableUpDownCounter},
};

use super::Pool;
use crate::supervision::Published;

/// The instruments of one database.
#[derive(Clone)]
pub(super) struct Instruments {
    operations: Histogram<f64>,
    waits: Histogram<f64>,
    _connections: ObservableUpDownCounter<i64>,
}

impl Instruments {
    pub(super) fn new(pool: &Published<Pool>) -> Self {
        let meter = global::meter("dotmac.db");
        let pool = pool.clone();
        Self {
            operations: meter
                .f64_histogram("db.client.operation.duration")
                .with_unit("s")
                .with_description("Time that a piece of database work took, from having a connection to its result")
                .build(),
            waits: meter
                .f64_histogram("db.client.connection.wait_time")
                .with_unit("s")
                .with_description("Time that work waited for a connection")
                .build(),
            _connections: meter
                .i64_observable_up_down_counter("db.client.connection.count")
                .with_unit("{connection}")
                .with_description("Connections to the database by what they are doing")
                .with_callback(move |gauge| {
                    let (idle, used) = pool.get().map_or((0, 0), |pool| (pool.status().idle, pool.status().used));
                    gauge.observe(idle as i64, &[KeyValue::new("state", "idle")]);
                    gauge.observe(used as i64, &[KeyValue::new("state", "used")]);
                })
                .build(),
        }
    }

    pub(super) fn waited(&self, system: &'static str, took: Duration) {
        self.waits.record(
            took.as_secs_f64(),
            &[KeyValue::new("db.system.name", system)],
        );
    }

    pub(super) fn worked(
        &self,
        system: &'static str,
        operation: &'static str,
        took: Duration,
        failed: bool,
    ) {
        let attributes = [
            KeyValue::new("db.system.name", system),
            KeyValue::new("db.operation.name", operation),
            KeyValue::new("outcome", if failed { "error" } else { "ok" }),
        ];
        self.operations.record(took.as_secs_f64(), &attributes);
    }
}
