//! Devices by which users have signed in, known by a cookie.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    Connection, DbError, OptionalExtension, Tx, on,
    types::{Id, Moment},
};

use super::{schema::devices, users::UserId};

/// A mark for ids.
pub(crate) enum Device {}

#[derive(Clone, Insertable)]
#[diesel(table_name = devices)]
pub(crate) struct DeviceRow {
    pub(crate) id: Id<Device>,
    pub(crate) user_id: UserId,
    pub(crate) secret_hash: Vec<u8>,
    pub(crate) first_seen: Moment,
    pub(crate) last_seen: Moment,
}

pub(crate) async fn insert(tx: &mut Tx, row: &DeviceRow) -> Result<(), DbError> {
    on!(tx, |c| diesel::insert_into(devices::table)
        .values(row)
        .execute(c)
        .await)
    .map(drop)
}

/// The device of `user` with that cookie.
pub(crate) async fn find(
    tx: &mut Connection,
    user: UserId,
    secret_hash: Vec<u8>,
) -> Result<Option<Id<Device>>, DbError> {
    let this_one = devices::user_id
        .eq(user)
        .and(devices::secret_hash.eq(secret_hash));
    let query = devices::table.filter(this_one).select(devices::id);
    on!(tx, |c| query.first(c).await).optional()
}

/// The devices of `user`, the ones seen last first; at most 200.
pub(crate) async fn of_user(tx: &mut Connection, user: UserId) -> Result<Vec<Id<Device>>, DbError> {
    let query = devices::table
        .filter(devices::user_id.eq(user))
        .order((devices::last_seen.desc(), devices::id.desc()))
        .limit(200)
        .select(devices::id);
    on!(tx, |c| query.load(c).await)
}

/// When the devices of `user` were seen first and last; at most 200.
pub(crate) async fn times_of(
    tx: &mut Connection,
    user: UserId,
) -> Result<Vec<(Moment, Moment)>, DbError> {
    let query = devices::table
        .filter(devices::user_id.eq(user))
        .order((devices::last_seen.desc(), devices::id.desc()))
        .limit(200)
        .select((devices::first_seen, devices::last_seen));
    on!(tx, |c| query.load(c).await)
}

/// Forgets all devices of `user`, but the one with that cookie.
pub(crate) async fn delete_of(
    tx: &mut Tx,
    user: UserId,
    kept: Option<Vec<u8>>,
) -> Result<usize, DbError> {
    // No cookie has an empty hash.
    let those = devices::user_id
        .eq(user)
        .and(devices::secret_hash.ne(kept.unwrap_or_default()));
    on!(tx, |c| diesel::delete(devices::table.filter(those))
        .execute(c)
        .await)
}

/// Forgets a device.
pub(crate) async fn delete(tx: &mut Tx, id: Id<Device>) -> Result<usize, DbError> {
    on!(tx, |c| diesel::delete(
        devices::table.filter(devices::id.eq(id))
    )
    .execute(c)
    .await)
}

pub(crate) async fn touch(tx: &mut Tx, id: Id<Device>) -> Result<usize, DbError> {
    let update = diesel::update(devices::table.filter(devices::id.eq(id)))
        .set(devices::last_seen.eq(Moment::now()));
    on!(tx, |c| update.execute(c).await)
}

/// Forgets devices that were not seen since `time`, at most `limit`; how many that were.
pub(crate) async fn delete_older(tx: &mut Tx, time: Moment, limit: i64) -> Result<usize, DbError> {
    let old = devices::table
        .filter(devices::last_seen.lt(time))
        .select(devices::id)
        .limit(limit);
    let old: Vec<Id<Device>> = on!(tx, |c| old.load(c).await)?;
    on!(tx, |c| diesel::delete(
        devices::table.filter(devices::id.eq_any(old))
    )
    .execute(c)
    .await)
}
