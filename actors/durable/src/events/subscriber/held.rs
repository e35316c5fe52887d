//! Events whose effect failed, and those that wait behind them. Each lane is a separate queue: its first event has a
//! time at which it is tried again, the others have none.

use std::collections::HashSet;

use diesel::{
    dsl::{count_star, exists},
    prelude::*,
};
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError, OptionalExtension, Tx, on, types::Moment};

use super::super::{Position, StoredEvent, log::at, tables::event_held};

/// So many are held for one subscriber at most; it then does not go on.
pub(super) const MOST: i64 = 10_000;
/// So many lanes are tried again before new events are read.
const AT_ONCE: i64 = 16;
/// Longest text of an error that is kept, in bytes.
const ERROR_MAX: usize = 1000;

/// How an event failed.
pub(super) struct Failure {
    pub(super) error: String,
    /// When to try again; `None` to park it.
    pub(super) retry_at: Option<Moment>,
}

/// An event that is due.
#[derive(Clone)]
pub(super) struct Due {
    pub(super) place: Position,
    pub(super) lane: String,
    pub(super) failures: u32,
}

/// The first events of those lanes whose time has come.
pub(super) async fn due(c: &mut Connection, subscriber: &'static str) -> Result<Vec<Due>, DbError> {
    let query = event_held::table
        .filter(event_held::subscriber.eq(subscriber))
        .filter(event_held::retry_at.le(Moment::now()))
        .order((event_held::xid, event_held::position))
        .limit(AT_ONCE)
        .select((
            (event_held::xid, event_held::position),
            event_held::lane,
            event_held::failures,
        ));
    let rows: Vec<((i64, i64), String, i32)> = on!(c, |c| query.load(c).await)?;
    let due = rows.into_iter().map(|(place, lane, failures)| Due {
        place: at(place),
        lane,
        failures: failures.try_into().unwrap_or(0),
    });
    Ok(due.collect())
}

/// Whether there are parked events.
pub(super) async fn has_parked(
    c: &mut Connection,
    subscriber: &'static str,
) -> Result<bool, DbError> {
    let parked = event_held::table.filter(
        event_held::subscriber
            .eq(subscriber)
            .and(event_held::parked.eq(true)),
    );
    on!(c, |c| diesel::select(exists(parked)).get_result(c).await)
}

/// The lanes in which an event is held.
pub(super) async fn lanes(
    tx: &mut Tx,
    subscriber: &'static str,
) -> Result<HashSet<String>, DbError> {
    let query = event_held::table
        .filter(event_held::subscriber.eq(subscriber))
        .select(event_held::lane)
        .distinct();
    let lanes: Vec<String> = on!(tx, |c| query.load(c).await)?;
    Ok(lanes.into_iter().collect())
}

/// How many more may be held.
pub(super) async fn room(tx: &mut Tx, subscriber: &'static str) -> Result<i64, DbError> {
    let query = event_held::table
        .filter(event_held::subscriber.eq(subscriber))
        .select(count_star());
    let count: i64 = on!(tx, |c| query.get_result(c).await)?;
    Ok(MOST - count)
}

/// Holds an event: behind others of its lane, or as the first because it failed.
pub(super) async fn hold(
    tx: &mut Tx,
    subscriber: &'static str,
    event: &StoredEvent,
    failure: Option<Failure>,
) -> Result<(), DbError> {
    let place = event.position();
    let failures = i32::from(failure.is_some());
    let parked = failure.as_ref().is_some_and(|it| it.retry_at.is_none());
    let (retry_at, error) = failure.map_or((None, None), |it| (it.retry_at, Some(cut(it.error))));
    let row = (
        event_held::subscriber.eq(subscriber),
        event_held::xid.eq(place.xid),
        event_held::position.eq(place.position),
        event_held::lane.eq(event.lane()),
        event_held::failures.eq(failures),
        event_held::retry_at.eq(retry_at),
        event_held::parked.eq(parked),
        event_held::error.eq(error),
    );
    let insert = diesel::insert_into(event_held::table).values(row);
    on!(tx, |c| insert.execute(c).await).map(drop)
}

/// Whether the event is still due as `due` says.
pub(super) async fn is_due(
    tx: &mut Tx,
    subscriber: &'static str,
    due: &Due,
) -> Result<bool, DbError> {
    let query = event_held::table
        .find((subscriber, due.place.xid, due.place.position))
        .select((event_held::failures, event_held::retry_at));
    let found: Option<(i32, Option<Moment>)> = on!(tx, |c| query.first(c).await).optional()?;
    Ok(found.is_some_and(|(failures, retry_at)| {
        u32::try_from(failures) == Ok(due.failures) && retry_at.is_some()
    }))
}

/// Says that the event failed once more.
pub(super) async fn fail(
    tx: &mut Tx,
    subscriber: &'static str,
    due: &Due,
    failure: Failure,
) -> Result<(), DbError> {
    let it = event_held::table.find((subscriber, due.place.xid, due.place.position));
    let failed = diesel::update(it).set((
        event_held::failures.eq(event_held::failures + 1),
        event_held::parked.eq(failure.retry_at.is_none()),
        event_held::retry_at.eq(failure.retry_at),
        event_held::error.eq(cut(failure.error)),
    ));
    on!(tx, |c| failed.execute(c).await).map(drop)
}

/// Lets go of an event that was handled; the next one of its lane is due.
pub(super) async fn release(
    tx: &mut Tx,
    subscriber: &'static str,
    due: &Due,
) -> Result<(), DbError> {
    let it = event_held::table.find((subscriber, due.place.xid, due.place.position));
    on!(tx, |c| diesel::delete(it).execute(c).await)?;
    let query = event_held::table
        .filter(event_held::subscriber.eq(subscriber))
        .filter(event_held::lane.eq(due.lane.clone()))
        .order((event_held::xid, event_held::position))
        .select((event_held::xid, event_held::position));
    let next: Option<(i64, i64)> = on!(tx, |c| query.first(c).await).optional()?;
    let Some((xid, position)) = next else {
        return Ok(());
    };
    let next = event_held::table.find((subscriber, xid, position));
    let due = diesel::update(next).set(event_held::retry_at.eq(Moment::now()));
    on!(tx, |c| due.execute(c).await).map(drop)
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(ERROR_MAX));
    text.replace('\0', "")
}
