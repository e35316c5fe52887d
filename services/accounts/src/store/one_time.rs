//! Links that are good once: to set a password, to prove an address.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    Connection, DbError, OptionalExtension, Tx, on,
    types::{Id, Moment},
};

use super::{schema::one_time_tokens as tokens, users::UserId};

/// The purpose of a link that puts the former address back.
pub(crate) const UNDO: &str = "email_undo";

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
    /// SHA-256 of the cookie of the browser that asked for it by mail; in another one the code of the mail is needed too.
    pub(crate) browser: Option<Vec<u8>>,
    /// A keyed hash of that code.
    pub(crate) code_hmac: Option<Vec<u8>>,
    /// Codes that were tried.
    pub(crate) tries: i32,
    /// The address that it makes the account's.
    pub(crate) address: Option<String>,
}

impl OneTimeRow {
    /// Whether it was not used and is not over.
    pub(crate) fn is_good(&self) -> bool {
        self.used_at.is_none() && self.expires_at > Moment::now()
    }
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

/// The newest of the user for a purpose.
pub(crate) async fn find_of(
    tx: &mut Connection,
    user: UserId,
    purpose: &'static str,
) -> Result<Option<OneTimeRow>, DbError> {
    let those = tokens::user_id.eq(user).and(tokens::purpose.eq(purpose));
    let query = tokens::table.filter(those).order(tokens::id.desc());
    on!(tx, |c| query.select(OneTimeRow::as_select()).first(c).await).optional()
}

/// Takes one of `most` tries of its code; 0 if there is none left, or if it was used.
pub(crate) async fn take_try(tx: &mut Tx, id: Id<OneTime>, most: i32) -> Result<usize, DbError> {
    let open = tokens::id
        .eq(id)
        .and(tokens::used_at.is_null())
        .and(tokens::tries.lt(most));
    let update =
        diesel::update(tokens::table.filter(open)).set(tokens::tries.eq(tokens::tries + 1));
    on!(tx, |c| update.execute(c).await)
}

/// Uses it up; 0 if another request did before.
pub(crate) async fn use_up(tx: &mut Tx, id: Id<OneTime>) -> Result<usize, DbError> {
    let this_one = tokens::id.eq(id).and(tokens::used_at.is_null());
    let update =
        diesel::update(tokens::table.filter(this_one)).set(tokens::used_at.eq(Some(Moment::now())));
    on!(tx, |c| update.execute(c).await)
}

/// Deletes the link, and those of its user for the same purpose that were made after it.
pub(crate) async fn delete_since(tx: &mut Tx, row: &OneTimeRow) -> Result<usize, DbError> {
    let those = tokens::user_id
        .eq(row.user_id)
        .and(tokens::purpose.eq(row.purpose.clone()))
        .and(tokens::created_at.ge(row.created_at));
    on!(tx, |c| diesel::delete(tokens::table.filter(those))
        .execute(c)
        .await)
}

/// Deletes the links of the user for a purpose.
pub(crate) async fn delete_of(
    tx: &mut Tx,
    user: UserId,
    purpose: String,
) -> Result<usize, DbError> {
    let those = tokens::user_id.eq(user).and(tokens::purpose.eq(purpose));
    on!(tx, |c| diesel::delete(tokens::table.filter(those))
        .execute(c)
        .await)
}

/// The same of those alone that a browser has asked for.
pub(crate) async fn delete_asked_for(
    tx: &mut Tx,
    user: UserId,
    purpose: String,
) -> Result<usize, DbError> {
    let those = tokens::user_id
        .eq(user)
        .and(tokens::purpose.eq(purpose))
        .and(tokens::browser.is_not_null());
    on!(tx, |c| diesel::delete(tokens::table.filter(those))
        .execute(c)
        .await)
}

/// Deletes those that were over before `time`, at most `limit`; how many that were.
pub(crate) async fn delete_over(tx: &mut Tx, time: Moment, limit: i64) -> Result<usize, DbError> {
    let over = tokens::table
        .filter(tokens::expires_at.lt(time))
        .select(tokens::id)
        .limit(limit);
    let over: Vec<Id<OneTime>> = on!(tx, |c| over.load(c).await)?;
    on!(tx, |c| diesel::delete(
        tokens::table.filter(tokens::id.eq_any(over))
    )
    .execute(c)
    .await)
}
