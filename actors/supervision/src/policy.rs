//! How patient a supervisor is: time-outs, restart delays, and when to give up.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Beyond it, the sum of an instant and a duration may be more than the clock can hold.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Rules for one child, or for the whole tree. The defaults are those of the daemon.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Faults within [`period`](Self::period) that are still answered by a restart. Default 5.
    pub intensity: u32,
    /// The window of [`intensity`](Self::intensity). Default 60 s.
    pub period: Duration,
    /// Delay before the first restart; doubles with each further fault. Default 100 ms.
    pub backoff_min: Duration,
    /// The longest delay before a restart. Default 10 s.
    pub backoff_max: Duration,
    /// How often an actor shows that its thread still turns. Default 1 s.
    pub heartbeat: Duration,
    /// Without progress for this long an actor counts as hung. Default 5 s.
    pub hang_after: Duration,
    /// Time from the start of a life to its first status. Default 30 s.
    pub start_timeout: Duration,
    /// Time that an actor has for an orderly stop, and a failed one for leaving its thread. Default 5 s.
    pub stop_timeout: Duration,
    /// The longest wait for an answer. Default 2 s.
    pub call_timeout: Duration,
    /// Calls in a row without an answer that count as a hang. Default 5.
    pub unanswered_limit: u32,
    /// Calls to one actor under way at a time; the next is refused as busy. Default 1024.
    pub in_flight_limit: usize,
    /// Threads given up because they would not end, over the whole tree; one more escalates. Default 3.
    pub max_leaked_threads: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            intensity: 5,
            period: Duration::from_secs(60),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            heartbeat: Duration::from_secs(1),
            hang_after: Duration::from_secs(5),
            start_timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(2),
            unanswered_limit: 5,
            in_flight_limit: 1024,
            max_leaked_threads: 3,
        }
    }
}

/// A policy that could not do what it promises.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The delays alone fill the window, so the fault counter never reaches its limit.
    #[error(
        "escalation is unreachable: the first {intensity} restart delays add up to {delays:?}, \
         which is not shorter than the period of {period:?}; lengthen the period or shorten the backoff"
    )]
    EscalationUnreachable {
        /// The policy's intensity.
        intensity: u32,
        /// The sum of the longest delays before the first `intensity` restarts.
        delays: Duration,
        /// The policy's period.
        period: Duration,
    },
    /// A healthy actor would count as hung.
    #[error(
        "every pause would count as a hang: hang_after ({hang_after:?}) must be at least twice the heartbeat \
        ({heartbeat:?})"
    )]
    HangBeforeHeartbeat {
        /// The policy's hang_after.
        hang_after: Duration,
        /// The policy's heartbeat.
        heartbeat: Duration,
    },
    /// A time-out or limit is zero that has to be positive.
    #[error("`{0}` must be greater than zero")]
    Zero(&'static str),
    /// A duration that no deadline can be computed from.
    #[error("`{0}` must not be longer than a year")]
    TooLong(&'static str),
    /// The shortest delay is longer than the longest.
    #[error("backoff_min ({min:?}) is longer than backoff_max ({max:?})")]
    BackoffOrder {
        /// The policy's backoff_min.
        min: Duration,
        /// The policy's backoff_max.
        max: Duration,
    },
}

impl Policy {
    /// Refuses a policy under which a crash loop would never escalate, or a healthy actor would be restarted.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] names the field and what would be right.
    pub fn check(&self) -> Result<(), PolicyError> {
        let durations = [
            ("period", self.period),
            ("heartbeat", self.heartbeat),
            ("start_timeout", self.start_timeout),
            ("stop_timeout", self.stop_timeout),
            ("call_timeout", self.call_timeout),
            ("hang_after", self.hang_after),
            ("backoff_max", self.backoff_max),
        ];
        let zero =
            |&&(name, duration): &&(&str, Duration)| duration.is_zero() && name != "backoff_max";
        if let Some((name, _)) = durations.iter().find(zero) {
            return Err(PolicyError::Zero(name));
        }
        if let Some((name, _)) = durations.iter().find(|(_, long)| *long > LONGEST) {
            return Err(PolicyError::TooLong(name));
        }
        if self.unanswered_limit == 0 {
            return Err(PolicyError::Zero("unanswered_limit"));
        }
        if self.in_flight_limit == 0 {
            return Err(PolicyError::Zero("in_flight_limit"));
        }
        if self.backoff_min > self.backoff_max {
            return Err(PolicyError::BackoffOrder {
                min: self.backoff_min,
                max: self.backoff_max,
            });
        }
        if self.hang_after < self.heartbeat * 2 {
            return Err(PolicyError::HangBeforeHeartbeat {
                hang_after: self.hang_after,
                heartbeat: self.heartbeat,
            });
        }
        // Past 32 doublings every delay is the longest one; no need to add them up one by one.
        let counted = self.intensity.min(32);
        let doubling: Duration = (1..=counted).map(|n| self.longest_delay(n)).sum();
        let delays =
            doubling.saturating_add(self.backoff_max.saturating_mul(self.intensity - counted));
        if delays >= self.period {
            return Err(PolicyError::EscalationUnreachable {
                intensity: self.intensity,
                delays,
                period: self.period,
            });
        }
        Ok(())
    }

    /// Time to wait before restart number `n` of a child, counted from 1: half of the doubled delay
    /// fixed, half drawn ("equal jitter"), so that neither a herd nor a hot loop forms.
    ///
    /// Source: "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    #[must_use]
    pub fn restart_delay(&self, n: u32) -> Duration {
        let longest = self.longest_delay(n);
        longest / 2 + (longest / 2).mul_f64(fastrand::f64())
    }

    /// The most that [`restart_delay`](Self::restart_delay) can return for `n`.
    fn longest_delay(&self, n: u32) -> Duration {
        let doublings = n.saturating_sub(1).min(31);
        self.backoff_min
            .saturating_mul(1 << doublings)
            .min(self.backoff_max)
    }
}

/// The sliding window behind [`Policy::intensity`], as Erlang's supervisor keeps it.
#[derive(Debug, Default)]
pub(crate) struct RestartWindow(VecDeque<Instant>);

impl RestartWindow {
    /// Counts one fault; says whether there are now more than the policy allows.
    pub(crate) fn exceeded_by(&mut self, now: Instant, policy: &Policy) -> bool {
        while self
            .0
            .front()
            .is_some_and(|&at| now.duration_since(at) > policy.period)
        {
            self.0.pop_front();
        }
        self.0.push_back(now);
        self.0.len() > policy.intensity as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_default_policy_is_sound() {
        assert_eq!(Policy::default().check(), Ok(()));
    }

    #[test]
    fn an_unreachable_escalation_is_refused() {
        let policy = Policy {
            period: Duration::from_secs(3),
            ..Policy::default()
        };
        assert!(matches!(
            policy.check(),
            Err(PolicyError::EscalationUnreachable { intensity: 5, .. })
        ));
    }

    #[test]
    fn a_time_out_without_end_is_refused() {
        let policy = Policy {
            stop_timeout: Duration::MAX,
            ..Policy::default()
        };
        assert_eq!(policy.check(), Err(PolicyError::TooLong("stop_timeout")));
    }

    #[test]
    fn a_hang_limit_below_two_heartbeats_is_refused() {
        let policy = Policy {
            hang_after: Duration::from_millis(1500),
            ..Policy::default()
        };
        assert!(matches!(
            policy.check(),
            Err(PolicyError::HangBeforeHeartbeat { .. })
        ));
    }

    proptest! {
        #[test]
        fn every_delay_lies_between_half_and_all_of_its_bound(n in 1u32..10_000, min in 0u64..500, extra in 0u64..100_000) {
            let policy = Policy {
                backoff_min: Duration::from_millis(min),
                backoff_max: Duration::from_millis(min + extra),
                ..Policy::default()
            };
            let (delay, bound) = (policy.restart_delay(n), policy.longest_delay(n));
            prop_assert!(bound / 2 <= delay && delay <= bound && bound <= policy.backoff_max);
        }

        #[test]
        fn a_sound_policy_escalates_in_every_crash_loop(intensity in 0u32..20, min in 1u64..2_000, max in 1u64..30_000, period in 1u64..300_000) {
            let policy = Policy {
                intensity,
                backoff_min: Duration::from_millis(min.min(max)),
                backoff_max: Duration::from_millis(max),
                period: Duration::from_millis(period),
                ..Policy::default()
            };
            prop_assume!(policy.check().is_ok());
            let (mut window, mut now) = (RestartWindow::default(), Instant::now());
            let mut faults = 0;
            while !window.exceeded_by(now, &policy) {
                faults += 1;
                prop_assert!(faults <= intensity, "a crash loop of {faults} faults went on");
                now += policy.longest_delay(faults);
            }
        }
    }

    #[test]
    fn faults_that_lie_apart_do_not_add_up() {
        let policy = Policy::default();
        let (mut window, start) = (RestartWindow::default(), Instant::now());
        for n in 0..100 {
            assert!(!window.exceeded_by(start + policy.period.mul_f64(0.21) * n, &policy));
        }
    }
}
