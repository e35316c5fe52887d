//! When a lease is renewed, when it is replaced, and when it is over: pure rules.
//!
//! A lease is renewed at about two thirds of its life, drawn for each so that replicas spread. One
//! that cannot be renewed, or whose renewal brought less than was asked because its longest life is
//! near, is replaced at that point instead; a third of its life is left to do it in.

use std::time::Duration;

use tokio::time::Instant;

/// The draw is in this part of a life: about two thirds.
const EARLIEST: f64 = 0.60;
const SPREAD: f64 = 0.10;

/// A renewal that leaves less than this part of the first grant leaves no time to lose.
const SHORT: f64 = 1.0 / 3.0;

/// The due action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing before this moment.
    At(Instant),
    /// Ask for more time.
    Renew,
    /// Get another one.
    Replace,
    /// It is over.
    Ended,
}

/// The life of one lease or token, or the time until a static role's password changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LeaseClock {
    granted: Instant,
    life: Duration,
    first: Duration,
    kind: Kind,
    /// From 0..1.
    draw: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Extended on request.
    Renewable,
    /// Ends when it ends.
    Fixed,
    /// Does not end for us; at the end of `life` there is another value.
    Rotating,
}

impl LeaseClock {
    /// A lease that was granted at `granted` for `life`. `draw` is from 0..1.
    pub(crate) fn leased(granted: Instant, life: Duration, renewable: bool, draw: f64) -> Self {
        Self {
            granted,
            life,
            first: life,
            kind: if renewable {
                Kind::Renewable
            } else {
                Kind::Fixed
            },
            draw,
        }
    }

    /// A value that its server changes `life` after `read`.
    pub(crate) fn rotating(read: Instant, life: Duration, draw: f64) -> Self {
        Self {
            granted: read,
            life,
            first: life,
            kind: Kind::Rotating,
            draw,
        }
    }

    /// The same lease after a renewal at `granted` that brought `life`.
    pub(crate) fn renewed(self, granted: Instant, life: Duration, draw: f64) -> Self {
        Self {
            granted,
            life,
            draw,
            ..self
        }
    }

    /// When it ends, if nothing is done; never for one that does not end for us.
    pub(crate) fn end(&self) -> Option<Instant> {
        (self.kind != Kind::Rotating).then(|| self.granted + self.life)
    }

    /// When the value or the lease is as old as it gets: what the countdown counts to.
    pub(crate) fn horizon(&self) -> Instant {
        self.granted + self.life
    }

    /// The rest of a life that cannot be extended.
    pub(crate) fn fixed_rest(&self, now: Instant) -> Option<Duration> {
        (self.kind == Kind::Fixed).then(|| self.horizon().saturating_duration_since(now))
    }

    /// The action due at `now`.
    pub(crate) fn due(&self, now: Instant) -> Due {
        if self.kind == Kind::Rotating {
            // A moment after the change, or the former value would be read once more.
            let read_again = self.horizon() + Duration::from_millis(20).mul_f64(1.0 + self.draw);
            return if now < read_again {
                Due::At(read_again)
            } else {
                Due::Replace
            };
        }
        if now >= self.horizon() {
            return Due::Ended;
        }
        let at = self.granted + self.life.mul_f64(EARLIEST + SPREAD * self.draw);
        let capped = self.life < self.first;
        let short = self.life < self.first.mul_f64(SHORT);
        match self.kind {
            _ if short => Due::Replace,
            _ if now < at => Due::At(at),
            Kind::Renewable if !capped => Due::Renew,
            _ => Due::Replace,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn waits_until(clock: &LeaseClock, now: Instant) -> Option<Instant> {
        match clock.due(now) {
            Due::At(at) => Some(at),
            _ => None,
        }
    }

    proptest! {
        #[test]
        fn a_lease_is_renewed_at_about_two_thirds_of_its_life(life in 1_000_u64..10_000_000, draw in 0.0..1.0) {
            let start = Instant::now();
            let clock = LeaseClock::leased(start, millis(life), true, draw);
            let at = waits_until(&clock, start);
            prop_assert!(at.is_some(), "{:?}", clock.due(start));
            let at = at.unwrap_or(start);
            let part = (at - start).as_secs_f64() / millis(life).as_secs_f64();
            prop_assert!((0.59..=0.71).contains(&part), "{part}");
            prop_assert_eq!(clock.due(at), Due::Renew);
            prop_assert_eq!(clock.due(start + millis(life)), Due::Ended);
        }

        #[test]
        fn one_that_cannot_be_renewed_is_replaced_before_its_end(life in 1_000_u64..10_000_000, draw in 0.0..1.0) {
            let start = Instant::now();
            let clock = LeaseClock::leased(start, millis(life), false, draw);
            let at = waits_until(&clock, start);
            prop_assert!(at.is_some(), "{:?}", clock.due(start));
            let at = at.unwrap_or(start);
            prop_assert_eq!(clock.due(at), Due::Replace);
            prop_assert!(clock.end().is_some_and(|end| end - at >= millis(life / 4)));
        }

        /// For any grant of a server, following the clock never meets the end of a lease: it always renews or replaces
        /// it in time.
        #[test]
        fn a_holder_that_follows_the_clock_never_meets_an_end(
            life in 2_000_u64..100_000,
            longest in 1_u64..20,
            draws in prop::collection::vec(0.0..1.0, 60),
        ) {
            let start = Instant::now();
            let dies = start + millis(life * longest);
            let mut clock = LeaseClock::leased(start, millis(life), true, 0.5);
            let mut now = start;
            for draw in draws {
                match clock.due(now) {
                    Due::At(at) => {
                        prop_assert!(at > now);
                        now = at;
                    }
                    Due::Renew => {
                        let granted = millis(life).min(dies - now);
                        clock = clock.renewed(now, granted, draw);
                    }
                    Due::Replace => {
                        prop_assert!(now < dies);
                        return Ok(());
                    }
                    Due::Ended => prop_assert!(false, "met the end"),
                }
            }
        }

        #[test]
        fn what_its_server_changes_is_read_again_after_the_change_and_never_ends(life in 0_u64..100_000, draw in 0.0..1.0) {
            let read = Instant::now();
            let clock = LeaseClock::rotating(read, millis(life), draw);
            let at = waits_until(&clock, read);
            prop_assert!(at.is_some(), "{:?}", clock.due(read));
            let at = at.unwrap_or(read);
            prop_assert!(at > clock.horizon());
            prop_assert_eq!(clock.due(at), Due::Replace);
            prop_assert_eq!(clock.end(), None);
        }
    }
}
