//! Metrics of rotation. Outlives the lives of the actor, as what it counts does.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, ObservableGauge},
};
use tokio::time::Instant;

/// The result of one rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rotated {
    /// Consumers use the new value.
    Applied,
    /// A consumer takes it at its restart.
    NeedsRestart,
    /// Where it is used it was refused; the former one stays in use.
    Refused,
    /// Vault gave none.
    Failed,
}

impl Rotated {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::NeedsRestart => "needs_restart",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// The instruments of all secrets.
pub(super) struct Instruments {
    rotations: Counter<u64>,
    deadlines: Arc<Mutex<BTreeMap<&'static str, Instant>>>,
    _remaining: ObservableGauge<f64>,
}

impl Default for Instruments {
    fn default() -> Self {
        let meter = global::meter("dotmac.secrets");
        let deadlines: Arc<Mutex<BTreeMap<&'static str, Instant>>> = Arc::default();
        let counted_down = Arc::clone(&deadlines);
        Self {
            rotations: meter
                .u64_counter("dotmac.secret.rotations")
                .with_description("Changes of a secret, by result")
                .build(),
            deadlines,
            _remaining: meter
                .f64_observable_gauge("dotmac.secret.lease.remaining")
                .with_unit("s")
                .with_description(
                    "Time until a leased secret ends unless it is renewed or replaced",
                )
                .with_callback(move |gauge| {
                    let now = Instant::now();
                    let deadlines = counted_down.lock().unwrap_or_else(PoisonError::into_inner);
                    for (secret, deadline) in deadlines.iter() {
                        let left = deadline.saturating_duration_since(now);
                        gauge.observe(left.as_secs_f64(), &[KeyValue::new("secret", *secret)]);
                    }
                })
                .build(),
        }
    }
}

impl Instruments {
    /// `secret` is the name of a setting or of a role: a closed set.
    pub(super) fn rotated(&self, secret: &str, result: Rotated) {
        let labels = [
            KeyValue::new("secret", secret.to_owned()),
            KeyValue::new("result", result.as_str()),
        ];
        self.rotations.add(1, &labels);
    }

    pub(super) fn ends_at(&self, secret: &'static str, deadline: Instant) {
        let mut deadlines = self
            .deadlines
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        deadlines.insert(secret, deadline);
    }
}
