//! The deadline of the whole stop, kept by a thread that needs no runtime.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing::{error, warn};

use crate::Exit;

/// The process ends with 75 when this is reached, unless it has ended before.
#[derive(Clone)]
pub(super) struct Deadline {
    /// When its time began.
    pub(super) began: Instant,
    total: Duration,
    phase: Arc<Mutex<&'static str>>,
}

impl Deadline {
    /// Sets a deadline `total` from now.
    pub(super) fn set(total: Duration) -> Self {
        let deadline = Self {
            began: Instant::now(),
            total,
            phase: Arc::new(Mutex::new("begin")),
        };
        let kept = deadline.clone();
        // Not joined: it outlives the stop on purpose, up to the end of the process.
        if let Err(error) = std::thread::Builder::new()
            .name("deadline".into())
            .spawn(move || kept.enforce())
        {
            warn!(%error, "no thread to enforce the shutdown deadline");
        }
        deadline
    }

    /// When it is reached.
    pub(super) fn at(&self) -> Instant {
        self.began + self.total
    }

    /// The remaining time until then.
    pub(super) fn left(&self) -> Duration {
        self.at().saturating_duration_since(Instant::now())
    }

    /// Notes how far the stop is, for the line that is logged if it takes too long.
    pub(super) fn enter(&self, phase: &'static str) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    fn enforce(&self) -> ! {
        #[expect(clippy::disallowed_methods, reason = "this thread exists to wait")]
        std::thread::sleep(self.left());
        let phase = *self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        error!(
            phase,
            timeout_ms = self.total.as_millis() as u64,
            "the stop took too long; ending in phase `{phase}`"
        );
        Exit::Overrun.now();
    }
}
