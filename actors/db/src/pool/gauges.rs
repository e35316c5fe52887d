//! Gauges of a pool and of the modules that use it.

use std::sync::{Arc, Mutex, Once, PoisonError, Weak};

use dotmac_supervision::Published;
use opentelemetry::KeyValue;

use super::{
    Pool,
    bulkhead::{Bulkhead, ModuleLoad},
};
use crate::instruments::{Looks, meter};

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
pub(crate) fn observe_module(module: &Arc<Bulkhead>) {
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
pub(crate) fn observe(pool: &Published<Pool>) {
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
