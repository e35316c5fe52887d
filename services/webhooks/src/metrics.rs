//! What is measured of webhooks. No label names an endpoint, a tenant or a type of events: there is no end of them.

use std::{sync::LazyLock, time::Duration};

use dotmac_platform::delivery::Attempt;
use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Histogram, Meter},
};

use crate::sender::Verdict;

static ATTEMPTS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    counter(
        "dotmac.webhooks.attempts",
        "Attempts to deliver webhooks, by outcome",
    )
});

static DELIVERIES: LazyLock<Counter<u64>> = LazyLock::new(|| {
    counter(
        "dotmac.webhooks.deliveries",
        "Ended deliveries of webhooks, by state",
    )
});

static INTERRUPTED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    counter(
        "dotmac.webhooks.interrupted",
        "Deliveries of webhooks taken over from an instance that did not finish them",
    )
});

static LATE: LazyLock<Counter<u64>> = LazyLock::new(|| {
    counter(
        "dotmac.webhooks.late",
        "Attempts to deliver webhooks that ended after their lease, and changed nothing",
    )
});

static DISABLED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    counter(
        "dotmac.webhooks.disabled",
        "Disabled endpoints of webhooks, by reason",
    )
});

static DURATION: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    meter()
        .f64_histogram("dotmac.webhooks.attempt.duration")
        .with_unit("s")
        .with_description("Time of an attempt to deliver a webhook")
        .build()
});

/// What attempts come to. A closed set.
const OUTCOMES: [&str; 7] = [
    "delivered",
    "refused",
    "gone",
    "timeout",
    "blocked",
    "unanswered",
    "untried",
];

/// Shows every series from the start on, so that an alert notices the first failure.
pub(crate) fn register() {
    for outcome in OUTCOMES {
        ATTEMPTS.add(0, &label("outcome", outcome));
    }
    for state in ["delivered", "failed"] {
        DELIVERIES.add(0, &label("state", state));
    }
    for reason in ["gone", "failing"] {
        DISABLED.add(0, &label("reason", reason));
    }
    INTERRUPTED.add(0, &[]);
    LATE.add(0, &[]);
    LazyLock::force(&DURATION);
}

pub(crate) fn attempted(verdict: Verdict, attempt: &Attempt, took: Duration) {
    let error = attempt.error.as_deref().unwrap_or_default();
    let outcome = match verdict {
        Verdict::Delivered => "delivered",
        Verdict::Gone => "gone",
        Verdict::Untried => "untried",
        Verdict::Again(_) if attempt.status.is_some() => "refused",
        Verdict::Again(_) if error.starts_with("timeout") => "timeout",
        Verdict::Again(_) => "unanswered",
        Verdict::Never => "blocked",
    };
    ATTEMPTS.add(1, &label("outcome", outcome));
    DURATION.record(took.as_secs_f64(), &[]);
}

pub(crate) fn settled(delivered: usize, failed: usize, late: usize) {
    let number = |it| u64::try_from(it).unwrap_or(u64::MAX);
    DELIVERIES.add(number(delivered), &label("state", "delivered"));
    DELIVERIES.add(number(failed), &label("state", "failed"));
    LATE.add(number(late), &[]);
}

pub(crate) fn interrupted(deliveries: usize) {
    INTERRUPTED.add(u64::try_from(deliveries).unwrap_or(u64::MAX), &[]);
}

pub(crate) fn disabled(reason: &'static str) {
    DISABLED.add(1, &label("reason", reason));
}

fn label(name: &'static str, value: &'static str) -> [KeyValue; 1] {
    [KeyValue::new(name, value)]
}

fn counter(name: &'static str, description: &'static str) -> Counter<u64> {
    meter()
        .u64_counter(name)
        .with_description(description)
        .build()
}

fn meter() -> Meter {
    global::meter("dotmac.webhooks")
}
