//! What is measured of deliveries. No label names a recipient, a tenant or a template: channels and states are closed sets.

use std::{sync::LazyLock, time::Duration};

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Histogram},
};

use crate::channel::{Channel, State};

static DELIVERIES: LazyLock<Counter<u64>> = LazyLock::new(|| {
    global::meter("dotmac.notifications")
        .u64_counter("dotmac.notifications.deliveries")
        .with_description("Deliveries, by channel and result")
        .build()
});

static ATTEMPTS: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    global::meter("dotmac.notifications")
        .f64_histogram("dotmac.notifications.attempt.duration")
        .with_unit("s")
        .with_description("Time from the begin of an attempt to the answer of the next hop")
        .build()
});

/// States of deliveries that are counted.
const COUNTED: [State; 7] = [
    State::Accepted,
    State::Delivered,
    State::Bounced,
    State::Failed,
    State::Suppressed,
    State::Unknown,
    State::Cancelled,
];

/// Shows each series of the channels that there are from the start, so that the first delivery that fails is a change.
pub(crate) fn begin(channels: &[Channel]) {
    for channel in channels.iter().copied() {
        for state in COUNTED {
            add(channel, state, 0);
        }
    }
}

/// Counts what became of a delivery.
pub(crate) fn settled(channel: Channel, state: State) {
    add(channel, state, 1);
}

fn add(channel: Channel, state: State, by: u64) {
    let labels = [
        KeyValue::new("channel", channel.as_str()),
        KeyValue::new("state", state.as_str()),
    ];
    DELIVERIES.add(by, &labels);
}

/// Measures an attempt.
pub(crate) fn attempted(channel: Channel, took: Duration) {
    let labels = [KeyValue::new("channel", channel.as_str())];
    ATTEMPTS.record(took.as_secs_f64(), &labels);
}
