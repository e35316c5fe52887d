//! Moments in UTC.

use std::{
    fmt,
    ops::{Add, Sub},
    time::Duration,
};

use chrono::{DateTime, NaiveDate, NaiveDateTime, SubsecRound, TimeDelta, Utc};
use diesel::{
    backend::Backend,
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    pg::Pg,
    serialize::{self, IsNull, Output, ToSql},
    sql_types::Timestamp,
    sqlite::Sqlite,
};
use serde::{Deserialize, Serialize};

/// A moment in UTC, in a column of type `TIMESTAMP`, to the microsecond, which is what PostgreSQL keeps. In
/// SQLite it is a text of one length, so that it sorts there as well.
#[derive(
    AsExpression,
    FromSqlRow,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
)]
#[diesel(sql_type = Timestamp)]
#[serde(transparent)]
pub struct Moment(DateTime<Utc>);

impl Moment {
    /// Later than any that is written: the end of the year 9999, the last that both back ends sort.
    pub const LAST: Self = Self(match NaiveDate::from_ymd_opt(9999, 12, 31) {
        Some(day) => match day.and_hms_opt(23, 59, 59) {
            Some(last) => last.and_utc(),
            None => DateTime::<Utc>::MIN_UTC,
        },
        None => DateTime::<Utc>::MIN_UTC,
    });

    /// This one.
    #[must_use]
    pub fn now() -> Self {
        Utc::now().into()
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    /// The moment that long after; the last one there is if it would be later.
    fn add(self, time: Duration) -> Self {
        let time = TimeDelta::from_std(time).unwrap_or(TimeDelta::MAX);
        self.0
            .checked_add_signed(time)
            .unwrap_or(DateTime::<Utc>::MAX_UTC)
            .into()
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    /// The moment that long before; the first one there is if it would be earlier.
    fn sub(self, time: Duration) -> Self {
        let time = TimeDelta::from_std(time).unwrap_or(TimeDelta::MAX);
        self.0
            .checked_sub_signed(time)
            .unwrap_or(DateTime::<Utc>::MIN_UTC)
            .into()
    }
}

impl From<DateTime<Utc>> for Moment {
    fn from(time: DateTime<Utc>) -> Self {
        Self(time.trunc_subsecs(6))
    }
}

impl From<Moment> for DateTime<Utc> {
    fn from(moment: Moment) -> Self {
        moment.0
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(chrono::SecondsFormat::Micros, true))
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ToSql<Timestamp, Pg> for Moment {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        ToSql::<Timestamp, Pg>::to_sql(&self.0.naive_utc(), &mut out.reborrow())
    }
}

impl ToSql<Timestamp, Sqlite> for Moment {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        out.set_value(crate::records::moment(*self));
        Ok(IsNull::No)
    }
}

impl<DB: Backend> FromSql<Timestamp, DB> for Moment
where
    NaiveDateTime: FromSql<Timestamp, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        NaiveDateTime::from_sql(bytes).map(|time| time.and_utc().into())
    }
}
