//! How long a job waits after a failed attempt.

use std::time::Duration;

/// Waits that grow with each failed attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// What each wait has at least. 15 s.
    pub base: Duration,
    /// The number of the attempt to this power, in [`unit`](Self::unit)s, is added. 4.
    pub power: u32,
    /// What the power counts. 1 s.
    pub unit: Duration,
    /// The longest wait. 24 h.
    pub longest: Duration,
}

impl Backoff {
    /// 15 s and the fourth power of the attempt in seconds, up to 24 h: 16 s, 31 s, 96 s, … With the default of 25
    /// attempts a job is tried for about 11 days.
    pub const DEFAULT: Self = Self {
        base: Duration::from_secs(15),
        power: 4,
        unit: Duration::from_secs(1),
        longest: Duration::from_secs(24 * 60 * 60),
    };

    /// Always the same wait.
    #[must_use]
    pub const fn fixed(wait: Duration) -> Self {
        Self {
            base: wait,
            power: 0,
            unit: Duration::ZERO,
            longest: wait,
        }
    }

    /// The wait after attempt number `attempt`, counted from 1, lengthened by up to a tenth at random.
    pub(super) fn wait(&self, attempt: u32) -> Duration {
        self.exact(attempt).mul_f64(1.0 + 0.1 * fastrand::f64())
    }

    fn exact(&self, attempt: u32) -> Duration {
        let grown = self.unit.saturating_mul(attempt.saturating_pow(self.power));
        self.base.saturating_add(grown).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_with_the_fourth_power_up_to_a_day() {
        let seconds = |attempt| Backoff::DEFAULT.exact(attempt).as_secs();
        assert_eq!([1, 2, 3, 10].map(seconds), [16, 31, 96, 10_015]);
        assert_eq!([18, 25, u32::MAX].map(seconds), [86_400; 3]);
        let wait = Backoff::DEFAULT.wait(1).as_secs_f64();
        assert!((16.0..=17.6).contains(&wait), "{wait}");
        let fixed = Backoff::fixed(Duration::from_millis(5));
        assert!(fixed.wait(7) < Duration::from_millis(6));
    }
}
