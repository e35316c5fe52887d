//! Metrics of outgoing calls. No label has a host: clients choose them, so their number has no limit.

use std::{sync::LazyLock, time::Instant};

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Histogram, Meter, UpDownCounter},
};

use super::{EgressAnswer, EgressError};

static ATTEMPTS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    meter()
        .u64_counter("dotmac.egress.attempts")
        .with_description("Attempts of outgoing calls, by result")
        .build()
});

static DURATION: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    meter()
        .f64_histogram("dotmac.egress.attempt.duration")
        .with_unit("s")
        .with_description("Time of an attempt of an outgoing call, from waiting for a place to the end of the answer")
        .build()
});

static UNDER_WAY: LazyLock<UpDownCounter<i64>> = LazyLock::new(|| {
    meter()
        .i64_up_down_counter("dotmac.egress.under_way")
        .with_description(
            "Attempts of outgoing calls under way, including those that wait for a place",
        )
        .build()
});

/// An answer of a status from 400 on.
const REFUSED: &str = "refused";
/// Its caller gave it up, or its time was over.
const GIVEN_UP: &str = "given_up";

/// Shows what calls have in common from the start on, so that an alert notices the first failure.
pub(super) fn register() {
    for outcome in ["ok", REFUSED, GIVEN_UP] {
        ATTEMPTS.add(0, &outcome_label(outcome));
    }
    UNDER_WAY.add(0, &[]);
    LazyLock::force(&DURATION);
}

/// An attempt that is under way.
pub(super) struct Measured {
    began: Instant,
    is_ended: bool,
}

impl Measured {
    pub(super) fn begin() -> Self {
        UNDER_WAY.add(1, &[]);
        Self {
            began: Instant::now(),
            is_ended: false,
        }
    }

    pub(super) fn end(mut self, outcome: &Result<EgressAnswer, EgressError>) {
        self.is_ended = true;
        self.count(match outcome {
            Ok(answer) if answer.status.as_u16() < 400 => "ok",
            Ok(_) => REFUSED,
            Err(EgressError::Timeout { .. }) => GIVEN_UP,
            Err(error) => error.code(),
        });
    }

    fn count(&self, outcome: &'static str) {
        ATTEMPTS.add(1, &outcome_label(outcome));
        DURATION.record(self.began.elapsed().as_secs_f64(), &[]);
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        UNDER_WAY.add(-1, &[]);
        if !self.is_ended {
            self.count(GIVEN_UP);
        }
    }
}

fn outcome_label(outcome: &'static str) -> [KeyValue; 1] {
    [KeyValue::new("outcome", outcome)]
}

fn meter() -> Meter {
    global::meter("dotmac.egress")
}
