//! How long to wait after failures in a row: a pure rule.

use std::time::Duration;

/// Waits that double with each failure, half of each drawn at random ("equal jitter"), so that
/// replicas that failed together do not come back together.
///
/// Source: "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    least: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// Waits between half of `least` and `most`.
    pub(super) const fn new(least: Duration, most: Duration) -> Self {
        Self {
            least,
            most,
            failures: 0,
        }
    }

    /// Counts what came of an attempt.
    pub(super) fn note(&mut self, failed: bool) {
        self.failures = if failed {
            self.failures.saturating_add(1)
        } else {
            0
        };
    }

    /// The wait before the next attempt; `None` if the last one did not fail. `draw` is from 0..1.
    pub(super) fn wait(&self, draw: f64) -> Option<Duration> {
        let doublings = self.failures.checked_sub(1)?;
        let longest = self
            .least
            .saturating_mul(2_u32.saturating_pow(doublings))
            .min(self.most);
        Some(longest.mul_f64(0.5 + 0.5 * draw))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_never_vanish_and_end_with_a_success() {
        let (least, most) = (Duration::from_millis(100), Duration::from_secs(10));
        let mut backoff = Backoff::new(least, most);
        assert_eq!(backoff.wait(0.5), None);
        let mut longest = Duration::ZERO;
        for _ in 0..100 {
            backoff.note(true);
            let low = backoff.wait(0.0).unwrap_or_default();
            let high = backoff.wait(1.0).unwrap_or_default();
            assert!(
                low >= least / 2 && high >= longest && high <= most,
                "{low:?} {high:?}"
            );
            longest = high;
        }
        assert_eq!(longest, most);
        backoff.note(false);
        assert_eq!(backoff.wait(0.5), None);
    }
}
