//! How far subscribers have come, and what holds them back.

use std::fmt;

use diesel::{dsl::count_star, prelude::*};
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError, OptionalExtension, on, types::Moment};
use serde::Serialize;

use super::{
    Position,
    horizon::horizon,
    log::{at, expired, is_held_back},
    tables::{event, event_held, event_subscriber},
};
use crate::{clock::now, order::holder};

/// Lag is counted up to here.
const LAG_MAX: i64 = 10_000;

/// A subscriber, as its rows in the database show it: the same on every instance.
#[derive(Clone, Debug, Serialize)]
pub struct SubscriberStatus {
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: SubscriberState,
    /// The last event that it has handled or passed over.
    pub position: Position,
    /// When it last moved.
    pub moved_at: Moment,
    /// Events of any type that it has not passed, counted up to 10,000.
    pub lag_events: i64,
    /// The age of the oldest of them, in seconds.
    pub lag_seconds: i64,
    /// Events at which it failed and those behind them, the parked ones included.
    pub held: i64,
    /// Events that it does not try again.
    pub parked: i64,
    /// The first event at which it failed, if it has not got over it.
    pub failed: Option<FailedEvent>,
    /// What keeps it from events that are there: `held back by transaction 8123 of pid 99 since 14 s`.
    pub held_by: Option<String>,
}

/// An event at which a subscriber failed.
#[derive(Clone, Debug, Serialize)]
pub struct FailedEvent {
    /// Its place in the log.
    pub sequence: Position,
    /// How often.
    pub failures: i32,
    /// The last error.
    pub error: String,
}

impl fmt::Display for FailedEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sequence,
            failures,
            error,
        } = self;
        match failures {
            1 => write!(f, "failed once at event {sequence}: {error}"),
            _ => write!(f, "failed {failures} times at event {sequence}: {error}"),
        }
    }
}

/// How a subscriber is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SubscriberState {
    /// It goes on, or waits for events.
    Running,
    /// It failed at an event, and tries it again; those of other partition keys go on.
    Failing,
    /// It has given up on an event, until it is asked to try again; those of other partition keys go on.
    Parked,
    /// Open transactions hold back the events that it waits for.
    HeldBack,
    /// Retention took events away that it had not handled; it waits until it is rewound.
    Expired,
    /// Its cursor is ahead of the database's transactions, which was restored into another cluster.
    Ahead,
}

impl SubscriberState {
    /// The word for programs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Failing => "failing",
            Self::Parked => "parked",
            Self::HeldBack => "held_back",
            Self::Expired => "expired",
            Self::Ahead => "ahead",
        }
    }
}

/// All subscribers that have a cursor. For a scope of the system.
///
/// # Errors
///
/// [`DbError`].
pub async fn subscribers(c: &mut Connection) -> Result<Vec<SubscriberStatus>, DbError> {
    let horizon = horizon(c).await?;
    let held_by = match is_held_back(c, horizon).await? {
        true => holder(c, horizon.xid).await?,
        false => None,
    };
    let expired = expired(c).await?;
    let now = chrono::DateTime::from(now(c).await?).naive_utc();
    let query = event_subscriber::table
        .order(event_subscriber::name)
        .select((
            event_subscriber::name,
            (event_subscriber::xid, event_subscriber::position),
            event_subscriber::moved_at,
        ));
    let rows: Vec<(String, (i64, i64), Moment)> = on!(c, |c| query.load(c).await)?;
    let mut statuses = Vec::with_capacity(rows.len());
    for (name, place, moved_at) in rows {
        let position = at(place);
        let (lag_events, oldest) = lag(c, position).await?;
        let held_by = held_by.clone().filter(|_| lag_events > 0);
        let (held, parked) = (held(c, &name, false).await?, held(c, &name, true).await?);
        let state = match () {
            () if position < expired => SubscriberState::Expired,
            () if position.xid >= horizon.xid => SubscriberState::Ahead,
            () if parked > 0 => SubscriberState::Parked,
            () if held > 0 => SubscriberState::Failing,
            () if held_by.is_some() => SubscriberState::HeldBack,
            () => SubscriberState::Running,
        };
        let lag = oldest.map(|oldest| now - oldest);
        statuses.push(SubscriberStatus {
            state,
            position,
            moved_at,
            lag_events,
            lag_seconds: lag.map_or(0, |lag| lag.num_seconds().max(0)),
            held,
            parked,
            failed: failed(c, &name).await?,
            held_by,
            name,
        });
    }
    Ok(statuses)
}

/// How many events there are behind `place`, and when the first of them began.
async fn lag(
    c: &mut Connection,
    place: Position,
) -> Result<(i64, Option<chrono::NaiveDateTime>), DbError> {
    let Position { xid, position } = place;
    let behind = event::xid
        .ge(xid)
        .and(event::xid.gt(xid).or(event::position.gt(position)));
    let query = event::table
        .filter(behind)
        .order((event::xid, event::position))
        .limit(LAG_MAX)
        .select(event::at);
    let times: Vec<chrono::NaiveDateTime> = on!(c, |c| query.load(c).await)?;
    let count = i64::try_from(times.len()).unwrap_or(LAG_MAX);
    Ok((count, times.into_iter().next()))
}

async fn held(c: &mut Connection, name: &str, only_parked: bool) -> Result<i64, DbError> {
    let query = event_held::table
        .filter(event_held::subscriber.eq(name.to_owned()))
        .filter(
            event_held::parked
                .eq(true)
                .or(event_held::parked.eq(only_parked)),
        )
        .select(count_star());
    on!(c, |c| query.get_result(c).await)
}

/// The first event that failed; those that wait behind another have not.
async fn failed(c: &mut Connection, name: &str) -> Result<Option<FailedEvent>, DbError> {
    let query = event_held::table
        .filter(event_held::subscriber.eq(name.to_owned()))
        .filter(event_held::error.is_not_null())
        .order((
            event_held::parked.desc(),
            event_held::xid,
            event_held::position,
        ))
        .select((
            (event_held::xid, event_held::position),
            event_held::failures,
            event_held::error.assume_not_null(),
        ));
    let found: Option<((i64, i64), i32, String)> = on!(c, |c| query.first(c).await).optional()?;
    Ok(found.map(|(place, failures, error)| FailedEvent {
        sequence: at(place),
        failures,
        error,
    }))
}
