//! Figures of the tokio runtimes: how busy their threads are and how much waits for them.
//!
//! A runtime is watched from a task or thread of its own by [`watch_runtime`]; those of one name are
//! added up, as the workers of the HTTP server are.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use tokio::runtime::{Handle, RuntimeMetrics};

/// More runtimes than any machine has use for; beyond that they are not watched.
const LIMIT: usize = 1024;

static WATCHED: Mutex<Vec<(&'static str, RuntimeMetrics)>> = Mutex::new(Vec::new());

/// Shows the runtime that this is called on in `tokio_runtime_*`, under `name`. Outside of a runtime it
/// does nothing.
pub fn watch_runtime(name: &'static str) {
    if let Ok(handle) = Handle::try_current() {
        let mut watched = watched();
        if watched.len() < LIMIT {
            watched.push((name, handle.metrics()));
        }
    }
}

fn watched() -> MutexGuard<'static, Vec<(&'static str, RuntimeMetrics)>> {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The sum of a figure over the runtimes of each name.
fn sums(figure: fn(&RuntimeMetrics) -> f64) -> BTreeMap<&'static str, f64> {
    let mut sums = BTreeMap::new();
    for (name, metrics) in watched().iter() {
        *sums.entry(*name).or_default() += figure(metrics);
    }
    sums
}

/// Registers the instruments on `meter`.
pub(super) fn observe(meter: &Meter) {
    let gauge = |name, unit, description, figure: fn(&RuntimeMetrics) -> f64| {
        meter
            .f64_observable_gauge(name)
            .with_unit(unit)
            .with_description(description)
            .with_callback(move |observer| {
                for (name, value) in sums(figure) {
                    observer.observe(value, &[KeyValue::new("runtime", name)]);
                }
            })
            .build();
    };
    gauge(
        "tokio.runtime.workers",
        "{thread}",
        "Threads that run the tasks of a runtime.",
        |runtime| runtime.num_workers() as f64,
    );
    gauge(
        "tokio.runtime.tasks",
        "{task}",
        "Tasks of a runtime that have not ended.",
        |runtime| runtime.num_alive_tasks() as f64,
    );
    gauge(
        "tokio.runtime.queue_depth",
        "{task}",
        "Tasks in the global queue of a runtime, waiting for a thread.",
        |runtime| runtime.global_queue_depth() as f64,
    );
    meter
        .f64_observable_counter("tokio.runtime.busy")
        .with_unit("s")
        .with_description("Time that the threads of a runtime were busy.")
        .with_callback(|observer| {
            let busy = |runtime: &RuntimeMetrics| {
                (0..runtime.num_workers())
                    .map(|worker| runtime.worker_total_busy_duration(worker).as_secs_f64())
                    .sum()
            };
            for (name, seconds) in sums(busy) {
                observer.observe(seconds, &[KeyValue::new("runtime", name)]);
            }
        })
        .build();
}
