//! Ceremonies that wait for the answer of an authenticator.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    Connection, DbError, OptionalExtension, Tx, on,
    types::{Id, Moment},
};

use super::{schema::passkey_ceremonies as ceremonies, sessions::SessionId, users::UserId};

/// A mark for ids.
pub(crate) enum Ceremony {}

#[derive(Clone, Debug, Insertable, Queryable, Selectable)]
#[diesel(table_name = ceremonies)]
pub(crate) struct CeremonyRow {
    pub(crate) id: Id<Ceremony>,
    pub(crate) public_id: String,
    /// SHA-256 of the secret part.
    pub(crate) hash: Vec<u8>,
    pub(crate) purpose: String,
    /// Whose answer is awaited; `None` if any user may sign in.
    pub(crate) user_id: Option<UserId>,
    /// The session that asked, if it was one.
    pub(crate) session_id: Option<SessionId>,
    /// The hash of the cookie of the browser that asked, if it was no session.
    pub(crate) browser: Option<Vec<u8>>,
    /// The challenge, and what the answer must be.
    pub(crate) state: Vec<u8>,
    pub(crate) expires_at: Moment,
}

/// Adds it in the place of one with the same public part.
pub(crate) async fn replace(tx: &mut Tx, row: &CeremonyRow) -> Result<(), DbError> {
    let former = ceremonies::table.filter(ceremonies::public_id.eq(row.public_id.clone()));
    on!(tx, |c| diesel::delete(former).execute(c).await)?;
    on!(tx, |c| diesel::insert_into(ceremonies::table)
        .values(row)
        .execute(c)
        .await)
    .map(drop)
}

pub(crate) async fn find(
    c: &mut Connection,
    public_id: &str,
) -> Result<Option<CeremonyRow>, DbError> {
    let query = ceremonies::table.filter(ceremonies::public_id.eq(public_id.to_owned()));
    on!(c, |c| query.select(CeremonyRow::as_select()).first(c).await).optional()
}

/// Ends it; 0 if another request did before.
pub(crate) async fn delete(tx: &mut Tx, id: Id<Ceremony>) -> Result<usize, DbError> {
    on!(tx, |c| diesel::delete(
        ceremonies::table.filter(ceremonies::id.eq(id))
    )
    .execute(c)
    .await)
}

/// Deletes those that were over before `time`, at most `limit`; how many that were.
pub(crate) async fn delete_over(tx: &mut Tx, time: Moment, limit: i64) -> Result<usize, DbError> {
    let over = ceremonies::table
        .filter(ceremonies::expires_at.lt(time))
        .select(ceremonies::id)
        .limit(limit);
    let over: Vec<Id<Ceremony>> = on!(tx, |c| over.load(c).await)?;
    on!(tx, |c| diesel::delete(
        ceremonies::table.filter(ceremonies::id.eq_any(over))
    )
    .execute(c)
    .await)
}
