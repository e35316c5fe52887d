//! What is counted of jobs.

use std::sync::LazyLock;

use opentelemetry::{KeyValue, global, metrics::Counter};

use super::{JobState, OccurrenceState};

static ENDED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    global::meter("dotmac.jobs")
        .u64_counter("dotmac.jobs.ended")
        .with_description(
            "Attempts of jobs that ended on this instance, by the resulting state of the job",
        )
        .build()
});

static OCCURRED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    global::meter("dotmac.jobs")
        .u64_counter("dotmac.jobs.occurrences")
        .with_description("Due times of schedules, by result")
        .build()
});

/// Counts an occurrence of a schedule, which is committed.
pub(super) fn occurred(kind: &'static str, state: OccurrenceState) {
    let labels = [
        KeyValue::new("kind", kind),
        KeyValue::new("state", state.as_str()),
    ];
    OCCURRED.add(1, &labels);
}

/// Counts the end of an attempt, which is committed.
pub(super) fn ended(kind: &'static str, state: JobState) {
    let labels = [
        KeyValue::new("kind", kind),
        KeyValue::new("state", state.as_str()),
    ];
    ENDED.add(1, &labels);
}
