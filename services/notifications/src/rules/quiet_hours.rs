//! Quiet hours: when a message may be sent to a user that is not to be disturbed now, in the user's own time zone.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeZone as _, Utc};
use chrono_tz::Tz;
use dotmac_platform::db::types::Moment;

use crate::store::quiet_hours::QuietHoursRow;

/// Minutes of a day.
const DAY: i32 = 24 * 60;

/// A wait, and when it ends in the words of the user's clock: `until 08:00 Europe/Berlin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quiet {
    pub(crate) until: Moment,
    pub(crate) words: String,
}

/// Until when the user is not to be disturbed, if `now` is within the quiet hours. They begin at `begins_at` and end before
/// `ends_at`, over midnight if that is earlier.
pub(crate) fn quiet_until(row: &QuietHoursRow, now: Moment) -> Option<Quiet> {
    let zone: Tz = row.zone.parse().ok()?;
    let now: DateTime<Utc> = now.into();
    let local = now.with_timezone(&zone);
    let minute = minute_of(local.time());
    let (begin, end) = (row.begins_at, row.ends_at);
    let is_over_midnight = begin > end;
    let is_quiet = match is_over_midnight {
        false => (begin..end).contains(&minute),
        true => minute >= begin || minute < end,
    };
    if !is_quiet {
        return None;
    }
    let is_tomorrow = is_over_midnight && minute >= begin;
    let date = local.date_naive() + Days::new(u64::from(is_tomorrow));
    let until = first_at(zone, date, end, now)?;
    Some(Quiet {
        until: until.into(),
        words: format!("until {} {}", shown(end), row.zone),
    })
}

/// The first moment after `now` at which a clock there shows that minute, or a later one: what is skipped in spring is there
/// on no clock, and what is doubled in autumn may be over once.
fn first_at(zone: Tz, date: NaiveDate, minute: i32, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    (minute..minute + DAY).find_map(|minute| {
        let date = date + Days::new(u64::try_from(minute / DAY).ok()?);
        let local = zone.from_local_datetime(&date.and_time(time_of(minute % DAY)?));
        let both = [local.earliest(), local.latest()];
        let mut both = both.into_iter().flatten().map(|it| it.with_timezone(&Utc));
        both.find(|it| *it > now)
    })
}

fn minute_of(time: NaiveTime) -> i32 {
    use chrono::Timelike as _;
    i32::try_from(time.num_seconds_from_midnight() / 60).unwrap_or_default()
}

fn time_of(minute: i32) -> Option<NaiveTime> {
    let minute = u32::try_from(minute).ok()?;
    NaiveTime::from_hms_opt(minute / 60, minute % 60, 0)
}

/// Minutes since midnight as a clock shows them: `08:00`.
pub(crate) fn shown(minute: i32) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

/// Minutes since midnight of `22:00`.
pub(crate) fn read(text: &str) -> Option<i32> {
    let is_clock = text.len() == 5 && text.as_bytes().get(2) == Some(&b':');
    let time = NaiveTime::parse_from_str(text, "%H:%M").ok()?;
    is_clock.then(|| minute_of(time))
}

/// Whether there is a time zone of that name.
pub(crate) fn is_zone(name: &str) -> bool {
    name.len() <= 64 && name.parse::<Tz>().is_ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use dotmac_platform::db::{TenantId, types::Id};
    use proptest::prelude::*;

    use super::*;

    fn quiet(zone: &str, begin: &str, end: &str) -> QuietHoursRow {
        QuietHoursRow {
            tenant_id: TenantId::default(),
            user_id: Id::default(),
            zone: zone.to_owned(),
            begins_at: read(begin).unwrap(),
            ends_at: read(end).unwrap(),
            updated_at: Moment::now(),
        }
    }

    fn at(text: &str) -> Moment {
        DateTime::parse_from_rfc3339(text)
            .unwrap()
            .with_timezone(&Utc)
            .into()
    }

    #[test]
    fn a_message_waits_for_the_end_of_the_night_there() {
        for (zone, begin, end, now, until) in [
            (
                "Europe/Berlin",
                "22:00",
                "08:00",
                "2026-11-29T20:59:59Z",
                None,
            ),
            (
                "Europe/Berlin",
                "22:00",
                "08:00",
                "2026-11-29T21:00:00Z",
                Some("2026-11-30T07:00:00Z"),
            ),
            (
                "Europe/Berlin",
                "22:00",
                "08:00",
                "2026-11-30T03:00:00Z",
                Some("2026-11-30T07:00:00Z"),
            ),
            (
                "Europe/Berlin",
                "22:00",
                "08:00",
                "2026-11-30T07:00:00Z",
                None,
            ),
            (
                "Asia/Kolkata",
                "12:00",
                "13:30",
                "2026-11-29T07:00:00Z",
                Some("2026-11-29T08:00:00Z"),
            ),
            (
                "America/New_York",
                "00:00",
                "23:59",
                "2026-11-29T12:00:00Z",
                Some("2026-11-30T04:59:00Z"),
            ),
            // Clocks go forward at two: there is no half past two, and three is the first that there is.
            (
                "Europe/Berlin",
                "23:00",
                "02:30",
                "2026-03-29T00:30:00Z",
                Some("2026-03-29T01:00:00Z"),
            ),
            // They go back at three: half past two is there twice, and the first counts.
            (
                "Europe/Berlin",
                "23:00",
                "02:30",
                "2026-10-25T00:10:00Z",
                Some("2026-10-25T00:30:00Z"),
            ),
        ] {
            let found = quiet_until(&quiet(zone, begin, end), at(now));
            assert_eq!(
                found.map(|it| it.until),
                until.map(at),
                "{zone} {begin} {end} {now}"
            );
        }
        let words = quiet_until(
            &quiet("Europe/Berlin", "22:00", "08:00"),
            at("2026-11-29T23:00:00Z"),
        );
        assert_eq!(words.unwrap().words, "until 08:00 Europe/Berlin");
    }

    #[test]
    fn times_and_zones_are_read_strictly() {
        for (text, minute) in [
            ("00:00", Some(0)),
            ("23:59", Some(1439)),
            ("8:00", None),
            ("24:00", None),
            ("08:00:00", None),
            ("", None),
        ] {
            assert_eq!(read(text), minute, "{text}");
        }
        assert!(
            is_zone("Europe/Berlin") && is_zone("UTC") && !is_zone("Mars/Base") && !is_zone("")
        );
        assert_eq!(shown(485), "08:05");
    }

    proptest! {
        #[test]
        fn no_message_waits_longer_than_a_day_and_none_is_sent_within_quiet_hours(
            seconds in 1_700_000_000_i64..1_900_000_000, begin in 0..DAY, end in 0..DAY, zone in 0..4_usize,
        ) {
            let zone = ["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "UTC"][zone];
            let row = quiet(zone, &shown(begin), &shown(end));
            let now: Moment = DateTime::from_timestamp(seconds, 0).unwrap().into();
            if let Some(found) = quiet_until(&row, now) {
                prop_assert!(found.until > now);
                prop_assert!(found.until <= now + std::time::Duration::from_secs(25 * 3600));
                let is_end = quiet_until(&row, found.until).is_none();
                // Where the end of the quiet hours is skipped or doubled by the clock, it may begin again at once.
                prop_assert!(is_end || zone != "UTC");
            }
        }
    }
}
