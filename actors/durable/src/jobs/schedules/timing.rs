//! When a schedule is due.

use std::{fmt, time::Duration};

use chrono::{DateTime, TimeZone as _, Utc};
use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use dotmac_db::types::Moment;

use crate::clock::between;

/// The shortest and the longest interval.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// The longest line of cron, in bytes.
const MAX_LINE: usize = 255;

/// Why something is no timing of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// The line of cron is none, or is never due.
    #[error("{0}")]
    Cron(String),
    /// There is no such zone.
    #[error("is not a time zone of the IANA database such as `Europe/Berlin`")]
    Zone,
    /// The interval is too short or too long.
    #[error("is from 1 s to 366 days, in whole seconds")]
    Every,
}

/// When a schedule is due.
///
/// A line of cron is meant in its zone. Where clocks go forward, what is due in the hour that is skipped is due once, at its
/// end; where they go back, what is due in the hour that is doubled is due once, the first time. A line that is due more often
/// than that - each hour, or more than once an hour - follows the hours as they pass: it leaves out those that are skipped, and
/// is due in both that are doubled.
#[derive(Clone)]
pub struct Timing(Rule);

#[derive(Clone)]
enum Rule {
    Cron {
        line: String,
        cron: Box<Cron>,
        zone: Tz,
    },
    Every(Duration),
}

impl Timing {
    /// By a line of cron with five fields, in a zone of the IANA database.
    ///
    /// # Errors
    ///
    /// [`TimingError`]; also for a line that is never due, as `0 0 30 2 *`.
    pub fn cron(line: &str, zone: &str) -> Result<Self, TimingError> {
        let timing = Self::stored_cron(line, zone)?;
        match timing.next(Moment::now(), Moment::now()) {
            Some(_) => Ok(timing),
            None => Err(TimingError::Cron("is never due".to_owned())),
        }
    }

    /// The same, due or not.
    pub(super) fn stored_cron(line: &str, zone: &str) -> Result<Self, TimingError> {
        let zone: Tz = zone.parse().map_err(|_| TimingError::Zone)?;
        let wrong = |problem: String| TimingError::Cron(problem);
        if line.len() > MAX_LINE {
            return Err(wrong(format!("has more than {MAX_LINE} bytes")));
        }
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let cron = parser.parse(line).map_err(|error| {
            wrong(format!(
                "is not a line of cron with the five fields minute, hour, day, month, weekday: {error}"
            ))
        })?;
        Ok(Self(Rule::Cron {
            line: line.to_owned(),
            cron: Box::new(cron),
            zone,
        }))
    }

    /// At an interval, from 1 s to 366 days in whole seconds.
    ///
    /// # Errors
    ///
    /// [`TimingError::Every`].
    pub fn every(every: Duration) -> Result<Self, TimingError> {
        if !(SHORTEST..=LONGEST).contains(&every) || every.subsec_nanos() > 0 {
            return Err(TimingError::Every);
        }
        Ok(Self(Rule::Every(every)))
    }

    /// The line of cron, if it is by one.
    #[must_use]
    pub fn line(&self) -> Option<&str> {
        match &self.0 {
            Rule::Cron { line, .. } => Some(line),
            Rule::Every(_) => None,
        }
    }

    /// The zone that a line of cron is meant in; `UTC` for an interval.
    #[must_use]
    pub fn zone(&self) -> &'static str {
        match &self.0 {
            Rule::Cron { zone, .. } => zone.name(),
            Rule::Every(_) => "UTC",
        }
    }

    /// The interval, if it is one.
    #[must_use]
    pub fn interval(&self) -> Option<Duration> {
        match &self.0 {
            Rule::Cron { .. } => None,
            Rule::Every(every) => Some(*every),
        }
    }

    /// When it is due after `after` for the first time; `None` for never. An interval is counted from `anchor`.
    #[must_use]
    pub fn next(&self, anchor: Moment, after: Moment) -> Option<Moment> {
        let next = match &self.0 {
            Rule::Cron { cron, zone, .. } => {
                let after = DateTime::<Utc>::from(after);
                let local = zone.from_utc_datetime(&after.naive_utc());
                let next = cron.find_next_occurrence(&local, false).ok()?;
                Moment::from(next.with_timezone(&Utc))
            }
            Rule::Every(every) => {
                let passed = between(anchor, after).as_nanos() / every.as_nanos();
                let times = u32::try_from(passed + 1).ok()?;
                match anchor > after {
                    true => anchor,
                    false => anchor + every.checked_mul(times)?,
                }
            }
        };
        Some(next).filter(|next| after < *next && *next <= Moment::LAST)
    }
}

impl PartialEq for Timing {
    fn eq(&self, other: &Self) -> bool {
        let parts = |it: &Self| (it.line().map(str::to_owned), it.zone(), it.interval());
        parts(self) == parts(other)
    }
}

impl fmt::Debug for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Rule::Cron { line, zone, .. } => write!(f, "{line} ({zone})"),
            Rule::Every(every) => write!(f, "every {every:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(text: &str) -> Moment {
        let time: Result<DateTime<Utc>, _> = text.parse();
        time.map(Moment::from)
            .unwrap_or_else(|error| unreachable!("{text}: {error}"))
    }

    fn cron(line: &str, zone: &str) -> Timing {
        Timing::cron(line, zone).unwrap_or_else(|error| unreachable!("{line}: {error}"))
    }

    /// The occurrences behind `after`, as UTC to the minute.
    fn next(timing: &Timing, after: &str, count: usize) -> Vec<String> {
        let mut at = moment(after);
        let mut found = Vec::new();
        for _ in 0..count {
            let Some(next) = timing.next(at, at) else {
                break;
            };
            found.push(next.to_string()[..16].to_owned());
            at = next;
        }
        found
    }

    #[test]
    fn what_is_due_in_a_skipped_hour_is_due_once_at_its_end() {
        // 2026-03-29, 02:00 to 03:00 in Berlin is not there.
        let daily = cron("30 2 * * *", "Europe/Berlin");
        assert_eq!(
            next(&daily, "2026-03-28T00:00:00Z", 3),
            ["2026-03-28T01:30", "2026-03-29T01:00", "2026-03-30T00:30"]
        );
        // An hour further west the same day has all its hours.
        let daily = cron("30 2 * * *", "UTC");
        assert_eq!(
            next(&daily, "2026-03-28T00:00:00Z", 2),
            ["2026-03-28T02:30", "2026-03-29T02:30"]
        );
        // 2026-03-08, New York.
        let daily = cron("15 2 * * *", "America/New_York");
        assert_eq!(
            next(&daily, "2026-03-07T08:00:00Z", 2),
            ["2026-03-08T07:00", "2026-03-09T06:15"]
        );
    }

    #[test]
    fn what_is_due_in_a_doubled_hour_is_due_once_the_first_time() {
        // 2026-10-25, 02:00 to 03:00 in Berlin is there twice.
        let daily = cron("30 2 * * *", "Europe/Berlin");
        assert_eq!(
            next(&daily, "2026-10-24T00:00:00Z", 3),
            ["2026-10-24T00:30", "2026-10-25T00:30", "2026-10-26T01:30"]
        );
        // 2026-11-01, New York.
        let daily = cron("15 1 * * *", "America/New_York");
        assert_eq!(
            next(&daily, "2026-10-31T06:00:00Z", 2),
            ["2026-11-01T05:15", "2026-11-02T06:15"]
        );
    }

    #[test]
    fn what_is_due_each_hour_or_more_often_follows_the_hours_as_they_pass() {
        let halves = cron("*/30 * * * *", "Europe/Berlin");
        let all: Vec<_> = (0..6).map(|it| it * 30).collect();
        for day in ["2026-03-29T00", "2026-10-25T00"] {
            let expected: Vec<_> = all
                .iter()
                .map(|minutes| format!("{}{}:{:02}", &day[..12], minutes / 60, minutes % 60))
                .collect();
            let before = moment(&format!("{day}:00:00Z")) - Duration::from_secs(1);
            assert_eq!(next(&halves, &before.to_string(), 6), expected);
        }
    }

    #[test]
    fn an_occurrence_is_behind_what_it_is_asked_for_also_within_a_minute() {
        let daily = cron("30 2 * * *", "UTC");
        assert_eq!(
            next(&daily, "2026-01-01T02:29:59.5Z", 1),
            ["2026-01-01T02:30"]
        );
        assert_eq!(
            next(&daily, "2026-01-01T02:30:00Z", 1),
            ["2026-01-02T02:30"]
        );
        assert_eq!(
            next(&daily, "2026-01-01T02:30:00.5Z", 1),
            ["2026-01-02T02:30"]
        );
        let friday_or_13th = cron("0 0 13 * 5", "UTC");
        assert_eq!(
            next(&friday_or_13th, "2026-11-06T00:00:00Z", 2),
            ["2026-11-13T00:00", "2026-11-20T00:00"]
        );
    }

    #[test]
    fn an_interval_is_counted_from_its_anchor() {
        let timing = Timing::every(Duration::from_secs(90)).unwrap_or_else(|_| unreachable!());
        let anchor = moment("2026-01-01T00:00:00.25Z");
        let after = |seconds| timing.next(anchor, anchor + Duration::from_secs(seconds));
        assert_eq!(after(0), Some(anchor + Duration::from_secs(90)));
        assert_eq!(after(89), Some(anchor + Duration::from_secs(90)));
        assert_eq!(after(90), Some(anchor + Duration::from_secs(180)));
        let early = anchor - Duration::from_secs(1);
        assert_eq!(timing.next(anchor, early), Some(anchor));
    }

    #[test]
    fn what_is_no_timing_is_refused() {
        for line in [
            "",
            "* * * *",
            "60 * * * *",
            "* * * * * *",
            "0 0 30 2 *",
            "never",
            "* * * * 8",
        ] {
            let refused = Timing::cron(line, "UTC");
            assert!(
                matches!(refused, Err(TimingError::Cron(_))),
                "{line}: {refused:?}"
            );
        }
        let long = format!("{}* * * * *", " ".repeat(MAX_LINE));
        assert!(Timing::cron(&long, "UTC").is_err());
        for zone in ["", "Berlin", "Europe/Atlantis", "+01:00"] {
            assert_eq!(
                Timing::cron("* * * * *", zone),
                Err(TimingError::Zone),
                "{zone}"
            );
        }
        for every in [0, 367 * 24 * 60 * 60] {
            assert!(Timing::every(Duration::from_secs(every)).is_err());
        }
        assert!(Timing::every(Duration::from_millis(1500)).is_err());
    }
}
