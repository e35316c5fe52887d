//! How far subscribers have come, and how to send them back.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError, OptionalExtension, Querying, Tx, on, types::Moment};

use super::{
    Position,
    horizon::horizon,
    log::{at, expired, newest},
    tables::{event, event_held, event_subscriber},
};
use crate::clock::now;

/// Where a subscriber begins when it has no cursor yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the oldest event that is kept.
    #[default]
    Beginning,
    /// With what happens from now on.
    Now,
}

/// Where to send a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RewindTo {
    /// Before the oldest event that is kept.
    Beginning,
    /// Behind the event at this place.
    Position(Position),
    /// Before the first event of that moment or later.
    Time(Moment),
}

/// Why a subscriber is not sent elsewhere.
#[derive(Debug, thiserror::Error)]
pub enum RewindError {
    /// No subscriber has that name.
    #[error("there is no such subscriber")]
    NoSubscriber,
    /// The place is behind the newest event, or the moment is to come: all between would be passed over.
    #[error("the position is beyond the end of the log; its newest event is {newest}")]
    Beyond {
        /// The newest event.
        newest: Position,
    },
    /// The database did not do it.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Sends the subscriber `name` to another place of the log, and forgets what it has held and parked: it handles all events
/// behind that place, also those that it has handled before. Where it goes on.
///
/// # Errors
///
/// [`RewindError`].
pub async fn rewind(tx: &mut Tx, name: &str, to: RewindTo) -> Result<Position, RewindError> {
    let expired = expired(tx).await?;
    let horizon = horizon(tx).await?;
    let newest = newest(tx, horizon).await?.max(expired);
    let place = match to {
        RewindTo::Beginning => expired,
        RewindTo::Position(place) if place > newest => return Err(RewindError::Beyond { newest }),
        RewindTo::Position(place) => place.max(expired),
        RewindTo::Time(time) => {
            if DateTime::<Utc>::from(time) > now(tx).await?.into() {
                return Err(RewindError::Beyond { newest });
            }
            let query = event::table
                .filter(event::at.ge(time).and(event::xid.lt(horizon.xid)))
                .order((event::xid, event::position))
                .select((event::xid, event::position));
            let first: Option<(i64, i64)> = on!(tx, |c| query.first(c).await).optional()?;
            first.map_or(newest, |(xid, position)| at((xid, position - 1)))
        }
    };
    let this_one = event_subscriber::table.find(name.to_owned());
    let moved = diesel::update(this_one).set((
        event_subscriber::xid.eq(place.xid),
        event_subscriber::position.eq(place.position),
        event_subscriber::moved_at.eq(Moment::now()),
    ));
    if on!(tx, |c| moved.execute(c).await)? == 0 {
        return Err(RewindError::NoSubscriber);
    }
    let held = event_held::table.filter(event_held::subscriber.eq(name.to_owned()));
    on!(tx, |c| diesel::delete(held).execute(c).await)?;
    Ok(place)
}

/// Has the subscriber `name` try its parked events again, as if they had not failed. How many there were.
///
/// # Errors
///
/// [`RewindError::NoSubscriber`] or [`RewindError::Db`].
pub async fn retry_parked(tx: &mut Tx, name: &str) -> Result<usize, RewindError> {
    let known = event_subscriber::table
        .find(name.to_owned())
        .select(event_subscriber::name);
    let known: Option<String> = on!(tx, |c| known.first(c).await).optional()?;
    let name = known.ok_or(RewindError::NoSubscriber)?;
    let parked = event_held::table.filter(
        event_held::subscriber
            .eq(name)
            .and(event_held::parked.eq(true)),
    );
    let again = diesel::update(parked).set((
        event_held::parked.eq(false),
        event_held::failures.eq(0),
        event_held::retry_at.eq(Moment::now()),
        event_held::error.eq(None::<String>),
    ));
    Ok(on!(tx, |c| again.execute(c).await)?)
}

/// Makes the cursor of a subscriber that has none.
pub(super) async fn begin(tx: &mut Tx, name: &'static str, start: Start) -> Result<(), DbError> {
    let place = match start {
        Start::Beginning => expired(tx).await?,
        Start::Now => {
            let horizon = horizon(tx).await?;
            newest(tx, horizon).await?
        }
    };
    let row = (
        event_subscriber::name.eq(name),
        event_subscriber::xid.eq(place.xid),
        event_subscriber::position.eq(place.position),
        event_subscriber::moved_at.eq(Moment::now()),
    );
    let insert = diesel::insert_into(event_subscriber::table).values(row);
    let insert = insert.on_conflict(event_subscriber::name).do_nothing();
    on!(tx, |c| insert.execute(c).await).map(drop)
}

/// Where the subscriber is; `None` if it has no cursor.
pub(super) async fn find(
    c: &mut Connection,
    name: &'static str,
) -> Result<Option<Position>, DbError> {
    let query = event_subscriber::table
        .find(name)
        .select((event_subscriber::xid, event_subscriber::position));
    let found: Option<(i64, i64)> = on!(c, |c| query.first(c).await).optional()?;
    Ok(found.map(at))
}

/// Locks the cursor for this transaction, and gives its place; `None` while another instance has it. So there is one
/// that works for a subscriber at a time, and what it saw of the cursor holds until its commit.
pub(super) async fn lock(tx: &mut Tx, name: &'static str) -> Result<Option<Position>, DbError> {
    let query = event_subscriber::table
        .find(name)
        .select((event_subscriber::xid, event_subscriber::position));
    let found = match tx.connection() {
        Connection::Postgres(c) => {
            let query = query.for_update().skip_locked();
            query.first::<(i64, i64)>(&mut **c).await
        }
        // The transaction has the only write lock there is.
        Connection::Sqlite(c) => query.first::<(i64, i64)>(&mut **c).await,
    };
    Ok(tx.classified(found).optional()?.map(at))
}

/// Moves the cursor, which is locked.
pub(super) async fn advance(
    tx: &mut Tx,
    name: &'static str,
    place: Position,
) -> Result<(), DbError> {
    let moved = diesel::update(event_subscriber::table.find(name)).set((
        event_subscriber::xid.eq(place.xid),
        event_subscriber::position.eq(place.position),
        event_subscriber::moved_at.eq(Moment::now()),
    ));
    on!(tx, |c| moved.execute(c).await).map(drop)
}
