//! Supervision in figures: what the board and the vitals say, as instruments.

use std::{sync::Arc, time::UNIX_EPOCH};

use dotmac_supervision::{CallObserver, CallOutcome, State, SupervisorHandle, WorkerVitals};
use opentelemetry::{KeyValue, global, metrics::Meter};

/// Measures each call through a handle: `dotmac_actor_call_duration_seconds`.
pub(crate) fn call_observer() -> CallObserver {
    let duration = meter()
        .f64_histogram("dotmac.actor.call.duration")
        .with_unit("s")
        .with_description("Time of a call to an actor, by outcome")
        .build();
    Arc::new(move |actor, took, outcome| {
        let outcome = match outcome {
            CallOutcome::Answered => "answered",
            CallOutcome::Failed => "failed",
        };
        duration.record(
            took.as_secs_f64(),
            &[
                KeyValue::new("actor", actor),
                KeyValue::new("outcome", outcome),
            ],
        );
    })
}

/// Registers what is read from the supervisor's snapshot at each scrape. Without a query.
pub(crate) fn observe(supervisor: &SupervisorHandle) {
    let meter = meter();
    observe_board(&meter, supervisor);
    observe_actors(&meter, supervisor);
    observe_workers(&meter, supervisor);
}

fn meter() -> Meter {
    global::meter("dotmac.supervision")
}

fn observe_board(meter: &Meter, supervisor: &SupervisorHandle) {
    let handle = supervisor.clone();
    meter
        .u64_observable_gauge("dotmac.ready")
        .with_description("1 while the instance should get work, else 0")
        .with_callback(move |gauge| {
            let ready = handle.is_alive() && handle.board().readiness.serves();
            gauge.observe(u64::from(ready), &[]);
        })
        .build();
    let handle = supervisor.clone();
    meter
        .u64_observable_gauge("dotmac.component.state")
        .with_description("1 for the state that a component is in, 0 for the others")
        .with_callback(move |gauge| {
            for component in &handle.board().components {
                for state in State::ALL {
                    let labels = [
                        KeyValue::new("component", component.name),
                        KeyValue::new("state", state.as_str()),
                    ];
                    gauge.observe(u64::from(component.state == state), &labels);
                }
            }
        })
        .build();
    let handle = supervisor.clone();
    meter
        .u64_observable_gauge("dotmac.leaked_threads")
        .with_description("Threads of actors that did not end and were given up")
        .with_callback(move |gauge| gauge.observe(handle.board().leaked_threads as u64, &[]))
        .build();
}

fn observe_actors(meter: &Meter, supervisor: &SupervisorHandle) {
    let handle = supervisor.clone();
    meter
        .u64_observable_counter("dotmac.actor.restarts")
        .with_description("Restarts of an actor, by cause")
        .with_callback(move |counter| {
            for vitals in handle.vitals() {
                for (cause, count) in vitals.restarts {
                    let labels = [
                        KeyValue::new("actor", vitals.name),
                        KeyValue::new("cause", cause.as_str()),
                    ];
                    counter.observe(count, &labels);
                }
            }
        })
        .build();
    let handle = supervisor.clone();
    meter
        .u64_observable_gauge("dotmac.actor.calls_in_flight")
        .with_description("Calls to an actor without an answer yet")
        .with_callback(move |gauge| {
            for vitals in handle.vitals() {
                gauge.observe(
                    vitals.calls_in_flight as u64,
                    &[KeyValue::new("actor", vitals.name)],
                );
            }
        })
        .build();
    let handle = supervisor.clone();
    meter
        .f64_observable_gauge("dotmac.actor.heartbeat.age")
        .with_unit("s")
        .with_description("Time since the thread of an actor last made progress")
        .with_callback(move |gauge| {
            for vitals in handle.vitals() {
                if let Some(age) = vitals.heartbeat_age {
                    gauge.observe(age.as_secs_f64(), &[KeyValue::new("actor", vitals.name)]);
                }
            }
        })
        .build();
}

/// Without a worker there are no such series.
fn observe_workers(meter: &Meter, supervisor: &SupervisorHandle) {
    let handle = supervisor.clone();
    meter
        .u64_observable_counter("dotmac.worker.runs")
        .with_description("Successful runs of a worker")
        .with_callback(move |counter| {
            for (name, worker) in workers(&handle) {
                counter.observe(worker.runs, &[KeyValue::new("worker", name)]);
            }
        })
        .build();
    let handle = supervisor.clone();
    meter
        .f64_observable_gauge("dotmac.worker.last_success")
        .with_unit("s")
        .with_description(
            "Time of the last successful run of a worker, in seconds since 1970; 0 for never",
        )
        .with_callback(move |gauge| {
            for (name, worker) in workers(&handle) {
                let at = worker.last_success.unwrap_or(UNIX_EPOCH);
                let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default();
                gauge.observe(since_epoch.as_secs_f64(), &[KeyValue::new("worker", name)]);
            }
        })
        .build();
    let handle = supervisor.clone();
    meter
        .f64_observable_gauge("dotmac.worker.run.age")
        .with_unit("s")
        .with_description("Duration of the current run of a worker so far; 0 between runs")
        .with_callback(move |gauge| {
            for (name, worker) in workers(&handle) {
                let age = worker.running_for.unwrap_or_default();
                gauge.observe(age.as_secs_f64(), &[KeyValue::new("worker", name)]);
            }
        })
        .build();
}

fn workers(supervisor: &SupervisorHandle) -> impl Iterator<Item = (&'static str, WorkerVitals)> {
    supervisor
        .vitals()
        .filter_map(|vitals| Some((vitals.name, vitals.worker?)))
}
