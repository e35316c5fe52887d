//! A lane: what may be under way to one destination.
//!
//! Each destination has its own, so that a slow one holds up nothing but itself. The state is a few numbers that a
//! service keeps in the destination's row: it reads them in the transaction that claims deliveries and writes them in the one
//! that records an attempt, so that all instances have one lane together.

use std::time::Duration;

use dotmac_db::types::Moment;

use crate::clock::between;

/// How lanes are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneRules {
    /// The most under way at once. 5.
    pub most: u32,
    /// An attempt that takes longer makes the lane narrower. 2 s.
    pub slow: Duration,
    /// After so many failures in a row the lane is held, and probed by one attempt at a time. 10.
    pub failures: u32,
    /// How long it is held first; doubled with each probe that fails. 30 s.
    pub hold: Duration,
    /// The longest that it is held between two probes. 1 h.
    pub longest_hold: Duration,
    /// A destination that has failed for so long, without one success, is given up. 5 d.
    pub give_up: Duration,
}

impl LaneRules {
    /// What the fields say.
    pub const DEFAULT: Self = Self {
        most: 5,
        slow: Duration::from_secs(2),
        failures: 10,
        hold: Duration::from_secs(30),
        longest_hold: Duration::from_secs(3600),
        give_up: Duration::from_secs(5 * 24 * 3600),
    };
}

/// How a destination has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    /// By how many attempts at once it is narrower than it could be.
    pub narrowed: u32,
    /// Failures in a row.
    pub failures: u32,
    /// When the first of them was.
    pub failing_since: Option<Moment>,
    /// Until when nothing is sent.
    pub held_until: Option<Moment>,
}

/// The same as a table has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneColumns {
    /// [`Lane::narrowed`].
    pub narrowed: i32,
    /// [`Lane::failures`].
    pub failures: i32,
    /// [`Lane::failing_since`].
    pub failing_since: Option<Moment>,
    /// [`Lane::held_until`].
    pub held_until: Option<Moment>,
}

impl From<LaneColumns> for Lane {
    fn from(it: LaneColumns) -> Self {
        Self {
            narrowed: u32::try_from(it.narrowed).unwrap_or_default(),
            failures: u32::try_from(it.failures).unwrap_or_default(),
            failing_since: it.failing_since,
            held_until: it.held_until,
        }
    }
}

impl From<Lane> for LaneColumns {
    fn from(it: Lane) -> Self {
        let number = |it| i32::try_from(it).unwrap_or(i32::MAX);
        Self {
            narrowed: number(it.narrowed),
            failures: number(it.failures),
            failing_since: it.failing_since,
            held_until: it.held_until,
        }
    }
}

/// What a failure led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The lane is open.
    Open,
    /// Nothing is sent for a time.
    Held,
    /// It has failed for too long: the service disables the destination.
    GivenUp,
}

impl Lane {
    /// How many more attempts may begin at `now` while `under_way` are.
    #[must_use]
    pub fn room(&self, rules: &LaneRules, under_way: u32, now: Moment) -> u32 {
        if self.held_until.is_some_and(|until| until > now) {
            return 0;
        }
        let width = if self.failures >= rules.failures {
            1 // the probe
        } else {
            rules.most.saturating_sub(self.narrowed).max(1)
        };
        width.saturating_sub(under_way)
    }

    /// Whether so much has failed that one attempt at a time probes the destination.
    #[must_use]
    pub const fn is_probed(&self, rules: &LaneRules) -> bool {
        self.failures >= rules.failures
    }

    /// Whether it is as wide as it can be, and nothing has failed since the last success.
    #[must_use]
    pub const fn is_well(&self) -> bool {
        self.failures == 0 && self.narrowed == 0
    }

    /// An attempt was accepted.
    pub fn succeeded(&mut self, rules: &LaneRules, took: Duration) {
        self.failures = 0;
        self.failing_since = None;
        self.held_until = None;
        self.adapt(rules, took);
    }

    /// An attempt failed at `now`; the receiver `asked` to be left alone for a time, as 429 and 503 do.
    pub fn failed(
        &mut self,
        rules: &LaneRules,
        took: Duration,
        asked: Option<Duration>,
        now: Moment,
    ) -> Standing {
        self.failures = self.failures.saturating_add(1);
        let since = *self.failing_since.get_or_insert(now);
        self.adapt(rules, took);
        if between(since, now) >= rules.give_up {
            return Standing::GivenUp;
        }
        let hold = self.hold(rules).max(asked);
        let Some(hold) = hold.filter(|hold| !hold.is_zero()) else {
            return Standing::Open;
        };
        // Attempts that began before may answer late: none of them shortens what another one asked for.
        self.held_until = self.held_until.max(Some(now + hold));
        Standing::Held
    }

    /// The lane of a destination that is used again after it was given up or changed.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// How long it is held because of failures.
    fn hold(&self, rules: &LaneRules) -> Option<Duration> {
        let probes = self.failures.checked_sub(rules.failures.max(1))?;
        let doubled = rules.hold.saturating_mul(2_u32.saturating_pow(probes));
        Some(doubled.min(rules.longest_hold))
    }

    /// Half as wide after a slow attempt, wider by one after a fast one.
    fn adapt(&mut self, rules: &LaneRules, took: Duration) {
        if took > rules.slow {
            let width = rules.most.saturating_sub(self.narrowed).max(1);
            self.narrowed = rules.most.saturating_sub((width / 2).max(1));
        } else {
            self.narrowed = self.narrowed.min(rules.most).saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: LaneRules = LaneRules::DEFAULT;
    const FAST: Duration = Duration::from_millis(10);
    const SLOW: Duration = Duration::from_secs(15);

    fn fail(lane: &mut Lane, now: Moment) -> Standing {
        lane.failed(&RULES, FAST, None, now)
    }

    #[test]
    fn a_slow_destination_has_one_place_and_a_fast_one_gets_five_again() {
        let (mut lane, now) = (Lane::default(), Moment::now());
        let mut widths = vec![lane.room(&RULES, 0, now)];
        for took in [SLOW, SLOW, SLOW, FAST, FAST, FAST, FAST, FAST] {
            lane.succeeded(&RULES, took);
            widths.push(lane.room(&RULES, 0, now));
        }
        assert_eq!(widths, [5, 2, 1, 1, 2, 3, 4, 5, 5]);
        assert_eq!(lane.room(&RULES, 5, now), 0);
        assert_eq!(lane.room(&RULES, 9, now), 0);
    }

    #[test]
    fn ten_failures_in_a_row_hold_it_and_one_attempt_probes_it() {
        let (mut lane, now) = (Lane::default(), Moment::now());
        for _ in 1..10 {
            assert_eq!(fail(&mut lane, now), Standing::Open);
        }
        assert_eq!(fail(&mut lane, now), Standing::Held);
        assert_eq!(lane.room(&RULES, 0, now), 0);
        let probe = now + RULES.hold;
        assert_eq!(lane.room(&RULES, 0, probe), 1);
        assert_eq!(lane.room(&RULES, 1, probe), 0);
        assert_eq!(fail(&mut lane, probe), Standing::Held);
        assert_eq!(lane.held_until, Some(probe + RULES.hold * 2));
        lane.succeeded(&RULES, FAST);
        assert_eq!((lane.failures, lane.room(&RULES, 0, probe)), (0, 5));
    }

    #[test]
    fn a_destination_that_fails_for_days_is_given_up() {
        let (mut lane, begin) = (Lane::default(), Moment::now());
        fail(&mut lane, begin);
        let day = Duration::from_secs(24 * 3600);
        assert_ne!(fail(&mut lane, begin + day * 4), Standing::GivenUp);
        assert_eq!(fail(&mut lane, begin + day * 5), Standing::GivenUp);
        lane.reset();
        assert_eq!(fail(&mut lane, begin + day * 6), Standing::Open);
    }

    #[test]
    fn a_destination_is_left_alone_for_as_long_as_it_asked() {
        let (mut lane, now) = (Lane::default(), Moment::now());
        let minute = Duration::from_secs(60);
        assert_eq!(lane.failed(&RULES, FAST, Some(minute), now), Standing::Held);
        assert_eq!(lane.room(&RULES, 0, now + FAST), 0);
        // One that was under way meanwhile does not open it.
        fail(&mut lane, now);
        assert_eq!(lane.room(&RULES, 0, now + FAST), 0);
        assert_eq!(lane.room(&RULES, 0, now + minute), 5);
    }

    #[test]
    fn a_lane_is_read_from_a_table_as_it_was_written() {
        let (mut lane, now) = (Lane::default(), Moment::now());
        fail(&mut lane, now);
        lane.succeeded(&RULES, SLOW);
        fail(&mut lane, now);
        assert_eq!(Lane::from(LaneColumns::from(lane)), lane);
        let strange = LaneColumns {
            narrowed: -1,
            ..LaneColumns::default()
        };
        assert_eq!(Lane::from(strange), Lane::default());
    }

    proptest! {
        #[test]
        fn there_is_never_more_under_way_than_may_be_and_always_an_end_to_waiting(
            attempts in proptest::collection::vec((any::<bool>(), 0_u64..20, 0_u64..100_000), 0..100),
            under_way in 0_u32..10,
        ) {
            let (mut lane, now) = (Lane::default(), Moment::now());
            for (ok, seconds, asked) in attempts {
                let took = Duration::from_secs(seconds);
                if ok {
                    lane.succeeded(&RULES, took);
                } else {
                    let asked = Some(Duration::from_secs(asked));
                    lane.failed(&RULES, took, asked, now);
                }
                prop_assert!(lane.room(&RULES, under_way, now) + under_way <= RULES.most.max(under_way));
                let later = now + Duration::from_secs(100_000);
                prop_assert!(lane.room(&RULES, 0, later) >= 1);
            }
        }
    }
}
