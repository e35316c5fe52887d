//! `http_server_active_requests` for requests that are dropped before they are answered.
//!
//! actix-web drops a handler's future when its connection is reset, and the crate that counts requests
//! in flight takes back only what was answered: without this the figure would grow for ever.

use opentelemetry::{
    InstrumentationScope, KeyValue, global,
    metrics::{Meter, MeterProvider, UpDownCounter},
};

/// The one scope of all that is measured here. The SDK returns the same instrument for the same name.
const SCOPE: &str = "dotmac.http";

/// Removes requests from the count that no other code removes. Made once for each worker.
#[derive(Clone)]
pub(super) struct InFlight(UpDownCounter<i64>);

/// Gives every scope the meter of ours.
pub(super) struct OneMeter;

impl MeterProvider for OneMeter {
    fn meter_with_scope(&self, _: InstrumentationScope) -> Meter {
        global::meter(SCOPE)
    }
}

impl InFlight {
    pub(super) fn meters() -> OneMeter {
        OneMeter
    }

    pub(super) fn new() -> Self {
        // Name, unit and description are those of the other side, or there would be two of them.
        let counter = global::meter(SCOPE)
            .i64_up_down_counter("http.server.active_requests")
            .with_description("Number of active HTTP server requests.")
            .with_unit("{request}")
            .build();
        Self(counter)
    }

    /// Holds for a request that was counted with `attributes`.
    pub(super) fn guard(&self, attributes: Vec<KeyValue>) -> Guard {
        Guard {
            counter: self.0.clone(),
            attributes: Some(attributes),
        }
    }
}

/// Takes its request out of the count when it is dropped before [`answered`](Self::answered).
pub(super) struct Guard {
    counter: UpDownCounter<i64>,
    attributes: Option<Vec<KeyValue>>,
}

impl Guard {
    pub(super) fn answered(mut self) {
        self.attributes = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(attributes) = &self.attributes {
            self.counter.add(-1, attributes);
        }
    }
}
