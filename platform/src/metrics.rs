//! Supervision in figures: what the board and the vitals say, as instruments.

use std::sync::Arc;

use dotmac_supervision::{CallObserver, CallOutcome, State, SupervisorHandle};
use opentelemetry::{KeyValue, global, metrics::Meter};

/// Measures each call through a handle: `dotmac_actor_call_duration_seconds`.
pub(crate) fn call_observer() -> CallObserver {
    let duration = meter()
        .f64_histogram("dotmac.actor.call.duration")
        .with_unit("s")
        .with_description("Time that a call to an actor took, by how it ended")
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

/// Registers what is read from the supervisor's snapshot at each scrape. Nobody is asked.
pub(crate) fn observe(supervisor: &SupervisorHandle) {
    let meter = meter();
    observe_board(&meter, supervisor);
    observe_actors(&meter, supervisor);
}

fn meter() -> Meter {
    global::meter("dotmac.supervision")
}

fn observe_board(meter: &Meter, supervisor: &SupervisorHandle) {
    let handle = supervisor.clone();
    meter
        .u64_observable_gauge("dotmac.ready")
        .with_description("1 while work should be sent, else 0")
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
        .with_description("Threads of actors that would not end and were given up")
        .with_callback(move |gauge| gauge.observe(handle.board().leaked_threads as u64, &[]))
        .build();
}

fn observe_actors(meter: &Meter, supervisor: &SupervisorHandle) {
    let handle = supervisor.clone();
    meter
        .u64_observable_counter("dotmac.actor.restarts")
        .with_description("Restarts of an actor by what ended its former life")
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
        .with_description("Calls to an actor that wait for an answer")
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
        .with_description("Time since the thread of an actor last showed progress")
        .with_callback(move |gauge| {
            for vitals in handle.vitals() {
                if let Some(age) = vitals.heartbeat_age {
                    gauge.observe(age.as_secs_f64(), &[KeyValue::new("actor", vitals.name)]);
                }
            }
        })
        .build();
}
