//! How long to wait after which attempt.

use std::{borrow::Cow, time::Duration};

use chrono::{DateTime, Utc};
use dotmac_db::types::Moment;

use crate::clock::between;

/// The longest wait that a receiver may ask for.
const LONGEST: Duration = hours(24);

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

const fn hours(hours: u64) -> Duration {
    minutes(hours * 60)
}

/// Waits after failed attempts, one after another; after the last of them nothing is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder(Cow<'static, [Duration]>);

impl Ladder {
    /// 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h: ten attempts in a little more than three days.
    pub const WEBHOOKS: Self = Self(Cow::Borrowed(&[
        Duration::from_secs(5),
        minutes(5),
        minutes(30),
        hours(2),
        hours(5),
        hours(10),
        hours(14),
        hours(20),
        hours(24),
    ]));

    /// A ladder of these waits.
    pub fn new(steps: impl Into<Vec<Duration>>) -> Self {
        Self(Cow::Owned(steps.into()))
    }

    /// How many attempts there are in all.
    #[must_use]
    pub fn attempts(&self) -> usize {
        self.0.len() + 1
    }

    /// The wait after failed attempt number `attempt`, counted from 1; `None` if it was the last one. Lengthened by up to a
    /// tenth at random, so that attempts that failed together are not repeated together, and never shorter than the receiver
    /// `asked` for.
    #[must_use]
    pub fn wait(&self, attempt: u32, asked: Option<Duration>) -> Option<Duration> {
        let index = usize::try_from(attempt.max(1) - 1).ok()?;
        let step = self.0.get(index)?.mul_f64(1.0 + 0.1 * fastrand::f64());
        Some(step.max(asked.unwrap_or_default().min(LONGEST)))
    }
}

/// What the header `Retry-After` asks for: a number of seconds, or a date (RFC 9110, 10.2.3), seen from `now`. At most 24 h;
/// `None` for what is neither.
#[must_use]
pub fn retry_after(value: &str, now: Moment) -> Option<Duration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number may have are a long time too.
        value.parse().map_or(LONGEST, Duration::from_secs)
    } else {
        let date = DateTime::parse_from_rfc2822(value).ok()?;
        between(now, date.with_timezone(&Utc).into())
    };
    Some(wait.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ladder_of_webhooks_ends_after_three_days() {
        let ladder = Ladder::WEBHOOKS;
        assert_eq!(ladder.attempts(), 10);
        let waits: Vec<_> = (1..=9).filter_map(|it| ladder.wait(it, None)).collect();
        let total: Duration = waits.iter().sum();
        assert_eq!(waits.len(), 9);
        assert!((Duration::from_secs(5)..=Duration::from_millis(5500)).contains(&waits[0]));
        assert!((hours(75)..hours(84)).contains(&total), "{total:?}");
        assert_eq!(ladder.wait(10, None), None);
        assert_eq!(ladder.wait(u32::MAX, None), None);
    }

    #[test]
    fn a_receiver_may_ask_for_more_but_not_for_less_nor_for_ever() {
        let ladder = Ladder::new([minutes(1)]);
        let wait = |asked| ladder.wait(1, Some(asked)).unwrap_or_default();
        assert_eq!(wait(minutes(10)), minutes(10));
        assert!(wait(Duration::from_secs(1)) >= minutes(1));
        assert_eq!(wait(hours(1000)), hours(24));
        assert_eq!(ladder.wait(2, Some(minutes(10))), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Moment = DateTime::from_timestamp(784_111_777, 0)
            .unwrap_or_default()
            .into();
        for (value, wait) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("99999999999999999999999999", Some(86_400)),
            ("Sun, 06 Nov 1994 08:51:37 GMT", Some(120)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Sat, 06 Nov 2094 08:51:37 GMT", Some(86_400)),
            ("", None),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
        ] {
            let read = retry_after(value, now);
            assert_eq!(read.map(|it| it.as_secs()), wait, "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_header_is_a_reason_to_wait_longer_than_a_day(value in ".{0,64}") {
            let wait = retry_after(&value, Moment::now());
            prop_assert!(wait.is_none_or(|wait| wait <= LONGEST));
        }
    }
}
