//! Links that are good once: to set a password, to prove an address.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    Connection, DbError, OptionalExtension, Tx, on,
    types::{Id, Moment},
};

use super::{schema::one_time_tokens as tokens, users::UserId};

/// A mark for ids.
pub(crate) enum OneTime {}

#[derive(Clone, Insertable, Queryable, Selectable)]
#[diesel(table_name = tokens)]
pub(crate) struct OneTimeRow {
    pub(crate) id: Id<OneTime>,
    pub(crate) public_id: String,
    pub(crate) user_id: UserId,
    pub(crate) purpose: String,
    /// SHA-256 of the secret part.
    pub(crate) hash: Vec<u8>,
    /// The state that it changes, as it was: a link for a state that has passed is over.
    pub(crate) bound_to: String,
    pub(crate) created_at: Moment,
    pub(crate) expires_at: Moment,
    pub(crate) used_at: Option<Moment>,
    /// The administrator who made it, and must still be allowed to when it is used.
    pub(crate) made_by: Option<UserId>,
}

pub(crate) async fn insert(tx: &mut Tx, row: &OneTimeRow) -> Result<(), DbError> {
    on!(tx, |c| diesel::insert_into(tokens::table)
        .values(row)
        .execute(c)
        .await)
    .map(drop)
}

pub(crate) async fn find(
    tx: &mut Connection,
    public_id: &str,
) -> Result<Option<OneTimeRow>, DbError> {
    let query = tokens::table.filter(tokens::public_id.eq(public_id.to_owned()));
    on!(tx, |c| query.select(OneTimeRow::as_select()).first(c).await).optional()
}

/// Uses it up; 0 if another request did before.
pub(crate) async fn use_up(tx: &mut Tx, id: Id<OneTime>) -> Result<usize, DbError> {
    let this_one = tokens::id.eq(id).and(tokens::used_at.is_null());
    let update =
        diesel::update(tokens::table.filter(this_one)).set(tokens::used_at.eq(Some(Moment::now())));
    on!(tx, |c| update.execute(c).await)
}

/// The newest link for a purpose is the only one.
pub(crate) async fn delete_of(
    tx: &mut Tx,
    user: UserId,
    purpose: &'static str,
) -> Result<usize, DbError> {
    let those = tokens::user_id.eq(user).and(tokens::purpose.eq(purpose));
    on!(tx, |c| diesel::delete(tokens::table.filter(those))
        .execute(c)
        .await)
}

pub(crate) async fn delete_over(tx: &mut Tx, time: Moment) -> Result<usize, DbError> {
    on!(tx, |c| diesel::delete(
        tokens::table.filter(tokens::expires_at.lt(time))
    )
    .execute(c)
    .await)
}
