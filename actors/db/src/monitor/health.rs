//! From what was seen of the database to how it is: one rule, apart from all looking.

use std::time::{Duration, Instant};

use crate::{
    AUTHENTICATION_FAILED, DATA_CORRUPTED, OpenError, POOL_EXHAUSTED, SLOW, TOO_MANY_CONNECTIONS,
    WORK_BLOCKED,
};
use dotmac_supervision::Reason;

/// For this long after the last time-out in the pool, the pool is called exhausted.
const EXHAUSTED_FOR: Duration = Duration::from_secs(5);

/// From so many slow answers in a row the database is called slow: one may be chance.
const SLOW_FROM: u32 = 2;

/// How the database is.
#[derive(Debug)]
pub(crate) enum Health {
    /// It works.
    Good,
    /// It works, with a limitation.
    Impaired(Reason),
    /// It does not do its work, and what we know of why.
    Down(Reason, Option<OpenError>),
}

/// Observations of a check, in addition to the database itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Work waits, and every connection is on loan.
    pub(crate) used_up: bool,
    /// Pieces of work that waited in vain, so far.
    pub(crate) exhausted: u64,
    /// Whether a piece of work has ended since the last look.
    pub(crate) finished: bool,
    /// Why no further connection can be opened, if none can.
    pub(crate) refusal: Option<Reason>,
    /// Work has met damaged data.
    pub(crate) corrupted: bool,
    /// Whether any connection is open.
    pub(crate) has_connections: bool,
    /// Our user was removed, and what is open goes on in its role.
    pub(crate) user_gone: bool,
    /// The last answer took long.
    pub(crate) slow: bool,
    /// Work blocks its thread.
    pub(crate) blocked: bool,
}

/// The state between checks.
#[derive(Debug)]
pub(crate) struct Judge {
    /// How long all connections may be on loan without one coming back.
    stuck_after: Duration,
    exhausted: u64,
    exhausted_at: Option<Instant>,
    /// Since when no work has ended while others waited.
    stuck_since: Option<Instant>,
    stuck: bool,
    /// Slow answers since the last one that was not.
    slow_answers: u32,
}

impl Judge {
    /// A judge who calls the pool stuck after `stuck_after`.
    pub(crate) fn new(stuck_after: Duration) -> Self {
        Self {
            stuck_after,
            exhausted: 0,
            exhausted_at: None,
            stuck_since: None,
            stuck: false,
            slow_answers: 0,
        }
    }

    /// The verdict at `now`: what the look found comes first, since nothing works without a database.
    pub(crate) fn verdict(
        &mut self,
        looked: Result<(), OpenError>,
        seen: Seen,
        now: Instant,
    ) -> Health {
        self.remember(seen, now);
        self.slow_answers = match &looked {
            Ok(()) if seen.slow => self.slow_answers.saturating_add(1),
            _ => 0,
        };
        let refusal = match looked {
            Ok(()) => seen.refusal,
            // The monitor is refused as well; that is no news of the connections that are open.
            Err(problem) if problem.reason() == TOO_MANY_CONNECTIONS && seen.has_connections => {
                Some(TOO_MANY_CONNECTIONS)
            }
            // Nor is it where our user is gone: what is open goes on, and could not be had again.
            Err(problem)
                if problem.reason() == AUTHENTICATION_FAILED
                    && seen.user_gone
                    && seen.has_connections =>
            {
                Some(AUTHENTICATION_FAILED)
            }
            Err(problem) => return Health::Down(problem.reason(), Some(problem)),
        };
        if self.stuck {
            let reason = match seen.blocked {
                true => WORK_BLOCKED,
                false => POOL_EXHAUSTED,
            };
            return Health::Down(reason, None);
        }
        match refusal {
            Some(reason) if !seen.has_connections => return Health::Down(reason, None),
            // A fault that needs an operator has precedence over one that passes.
            _ if seen.corrupted => return Health::Impaired(DATA_CORRUPTED),
            Some(reason) => return Health::Impaired(reason),
            None if seen.blocked => return Health::Impaired(WORK_BLOCKED),
            None => {}
        }
        match self.exhausted_at {
            Some(at) if now.duration_since(at) < EXHAUSTED_FOR => Health::Impaired(POOL_EXHAUSTED),
            _ if self.slow_answers >= SLOW_FROM => Health::Impaired(SLOW),
            _ => Health::Good,
        }
    }

    fn remember(&mut self, seen: Seen, now: Instant) {
        if seen.exhausted > self.exhausted {
            self.exhausted_at = Some(now);
        }
        self.exhausted = seen.exhausted;
        if seen.finished || !seen.has_connections {
            self.stuck_since = None;
            self.stuck = false;
        }
        if seen.used_up {
            let since = *self.stuck_since.get_or_insert(now);
            // Once stuck, it stays so until work ends: an empty queue is no sign of health.
            self.stuck |= now.duration_since(since) >= self.stuck_after;
        } else if !self.stuck {
            self.stuck_since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn seen() -> Seen {
        Seen {
            used_up: false,
            exhausted: 0,
            finished: false,
            refusal: None,
            corrupted: false,
            has_connections: true,
            user_gone: false,
            slow: false,
            blocked: false,
        }
    }

    fn read_only() -> OpenError {
        OpenError::ReadOnly {
            target: "here".into(),
        }
    }

    fn word(health: &Health) -> (&'static str, &'static str) {
        match health {
            Health::Good => ("good", ""),
            Health::Impaired(reason) => ("impaired", reason.as_str()),
            Health::Down(reason, _) => ("down", reason.as_str()),
        }
    }

    #[test]
    fn a_time_out_in_the_pool_is_a_handicap_for_a_while() {
        let (mut judge, start) = (Judge::new(PATIENCE), Instant::now());
        let mut at = |seconds, exhausted| {
            let seen = Seen {
                exhausted,
                ..seen()
            };
            let now = start + Duration::from_secs(seconds);
            word(&judge.verdict(Ok(()), seen, now))
        };
        assert_eq!(at(0, 0), ("good", ""));
        assert_eq!(at(1, 2), ("impaired", "pool_exhausted"));
        assert_eq!(at(3, 2), ("impaired", "pool_exhausted"));
        assert_eq!(at(6, 2), ("good", ""));
    }

    #[test]
    fn two_slow_answers_in_a_row_are_a_handicap_until_the_first_that_is_not() {
        let (mut judge, now) = (Judge::new(PATIENCE), Instant::now());
        let mut verdict = |slow| {
            let seen = Seen { slow, ..seen() };
            word(&judge.verdict(Ok(()), seen, now))
        };
        assert_eq!(verdict(true), ("good", ""));
        assert_eq!(verdict(false), ("good", ""));
        assert_eq!(verdict(true), ("good", ""));
        assert_eq!(verdict(true), ("impaired", "slow"));
        assert_eq!(verdict(false), ("good", ""));
    }

    #[test]
    fn a_pool_from_which_nothing_comes_back_is_down_until_something_does() {
        let (mut judge, start) = (Judge::new(PATIENCE), Instant::now());
        let mut at = |seconds, used_up, finished| {
            let seen = Seen {
                used_up,
                finished,
                ..seen()
            };
            let now = start + Duration::from_secs(seconds);
            word(&judge.verdict(Ok(()), seen, now))
        };
        assert_eq!(at(0, true, false), ("good", ""));
        // Busy, but at work: however long.
        assert_eq!(at(4, true, true), ("good", ""));
        assert_eq!(at(8, true, true), ("good", ""));
        assert_eq!(at(12, true, false), ("good", ""));
        assert_eq!(at(13, true, false), ("down", "pool_exhausted"));
        assert_eq!(at(14, false, false), ("down", "pool_exhausted"));
        assert_eq!(at(15, false, true), ("good", ""));
    }

    #[test]
    fn blocked_work_is_named_before_what_follows_from_it() {
        let (mut judge, start) = (Judge::new(PATIENCE), Instant::now());
        let mut at = |seconds, exhausted, used_up| {
            let seen = Seen {
                blocked: true,
                exhausted,
                used_up,
                ..seen()
            };
            let now = start + Duration::from_secs(seconds);
            word(&judge.verdict(Ok(()), seen, now))
        };
        assert_eq!(at(0, 0, false), ("impaired", "work_blocked"));
        assert_eq!(at(1, 1, true), ("impaired", "work_blocked"));
        assert_eq!(at(6, 1, true), ("down", "work_blocked"));
    }

    #[test]
    fn damaged_data_is_a_handicap_with_precedence_over_any_that_passes() {
        let (mut judge, now) = (Judge::new(PATIENCE), Instant::now());
        let corrupted = Seen {
            corrupted: true,
            ..seen()
        };
        let refused_too = Seen {
            refusal: Some(TOO_MANY_CONNECTIONS),
            ..corrupted
        };
        let mut verdict = |looked, seen| word(&judge.verdict(looked, seen, now));
        assert_eq!(verdict(Ok(()), corrupted), ("impaired", "data_corrupted"));
        assert_eq!(verdict(Ok(()), refused_too), ("impaired", "data_corrupted"));
        assert_eq!(verdict(Err(read_only()), corrupted), ("down", "read_only"));
    }

    #[test]
    fn a_user_that_is_gone_is_a_handicap_as_long_as_what_is_open_goes_on() {
        let (mut judge, now) = (Judge::new(PATIENCE), Instant::now());
        let refused = || Err(OpenError::NoAccount(AUTHENTICATION_FAILED));
        let gone = Seen {
            user_gone: true,
            ..seen()
        };
        let without = Seen {
            has_connections: false,
            ..gone
        };
        let mut verdict = |looked, seen| word(&judge.verdict(looked, seen, now));
        let word = "authentication_failed";
        assert_eq!(verdict(refused(), gone), ("impaired", word));
        assert_eq!(verdict(refused(), without), ("down", word));
        assert_eq!(verdict(refused(), seen()), ("down", word));
        assert_eq!(verdict(Err(read_only()), gone), ("down", "read_only"));
    }

    #[test]
    fn without_a_way_to_connect_it_is_impaired_as_long_as_connections_are_left() {
        let (mut judge, now) = (Judge::new(PATIENCE), Instant::now());
        let refused = Seen {
            refusal: Some(TOO_MANY_CONNECTIONS),
            ..seen()
        };
        let without = Seen {
            has_connections: false,
            ..refused
        };
        let mut verdict = |looked, seen| word(&judge.verdict(looked, seen, now));
        assert_eq!(
            verdict(Ok(()), refused),
            ("impaired", "too_many_connections")
        );
        assert_eq!(verdict(Ok(()), without), ("down", "too_many_connections"));
        assert_eq!(verdict(Err(read_only()), refused), ("down", "read_only"));
        // So is the monitor's own connection.
        let none_for_us = || Err(OpenError::NoAccount(TOO_MANY_CONNECTIONS));
        assert_eq!(
            verdict(none_for_us(), seen()),
            ("impaired", "too_many_connections")
        );
        assert_eq!(
            verdict(none_for_us(), without),
            ("down", "too_many_connections")
        );
    }
}
