//! Failures by identifier, whether it exists or not: the key is a keyed hash of it.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{Connection, DbError, OptionalExtension, Tx, on, types::Moment};

use super::schema::login_throttle as throttle;

#[derive(Clone, Debug, Insertable, Queryable, Selectable)]
#[diesel(table_name = throttle)]
pub(crate) struct ThrottleRow {
    pub(crate) key_hmac: Vec<u8>,
    pub(crate) failures: i32,
    pub(crate) window_start: Moment,
    /// No try counts before.
    pub(crate) until: Moment,
}

pub(crate) async fn find(
    tx: &mut Connection,
    key: Vec<u8>,
) -> Result<Option<ThrottleRow>, DbError> {
    let query = throttle::table.filter(throttle::key_hmac.eq(key));
    on!(tx, |c| query
        .select(ThrottleRow::as_select())
        .first(c)
        .await)
    .optional()
}

/// The row, which is made if there is none. It is held until the transaction ends.
pub(crate) async fn hold(tx: &mut Tx, key: Vec<u8>) -> Result<ThrottleRow, DbError> {
    let now = Moment::now();
    let first = ThrottleRow {
        key_hmac: key.clone(),
        failures: 0,
        window_start: now,
        until: now,
    };
    let upsert = diesel::insert_into(throttle::table)
        .values(first.clone())
        .on_conflict(throttle::key_hmac)
        .do_update()
        .set(throttle::failures.eq(throttle::failures));
    on!(tx, |c| upsert.execute(c).await)?;
    Ok(find(tx, key).await?.unwrap_or(first))
}

pub(crate) async fn set(tx: &mut Tx, row: ThrottleRow) -> Result<usize, DbError> {
    let change = (
        throttle::failures.eq(row.failures),
        throttle::window_start.eq(row.window_start),
        throttle::until.eq(row.until),
    );
    let update =
        diesel::update(throttle::table.filter(throttle::key_hmac.eq(row.key_hmac))).set(change);
    on!(tx, |c| update.execute(c).await)
}

pub(crate) async fn delete(tx: &mut Tx, key: Vec<u8>) -> Result<usize, DbError> {
    on!(tx, |c| diesel::delete(
        throttle::table.filter(throttle::key_hmac.eq(key))
    )
    .execute(c)
    .await)
}

/// Deletes at most `limit` rows that began before `time` and delay no client any more; their number.
pub(crate) async fn delete_over(tx: &mut Tx, time: Moment, limit: i64) -> Result<usize, DbError> {
    let is_over = throttle::window_start
        .lt(time)
        .and(throttle::until.lt(Moment::now()));
    let over = throttle::table
        .filter(is_over)
        .select(throttle::key_hmac)
        .limit(limit);
    let over: Vec<Vec<u8>> = on!(tx, |c| over.load(c).await)?;
    on!(tx, |c| diesel::delete(
        throttle::table.filter(throttle::key_hmac.eq_any(over))
    )
    .execute(c)
    .await)
}
