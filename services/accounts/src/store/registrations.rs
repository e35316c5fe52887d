//! Accounts to be, whose address is not proved yet: at most one for each address, and no user has it meanwhile.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    Connection, DbError, OptionalExtension, Tx, on,
    types::{Id, Moment},
};

use super::schema::registrations;

/// A mark for ids.
pub(crate) enum Registration {}

pub(crate) type RegistrationId = Id<Registration>;

#[derive(Clone, Insertable, Queryable, Selectable)]
#[diesel(table_name = registrations)]
pub(crate) struct RegistrationRow {
    pub(crate) id: RegistrationId,
    pub(crate) email: String,
    pub(crate) email_normal: String,
    pub(crate) username: Option<String>,
    pub(crate) full_name: Option<String>,
    /// The hash of the password, which counts if the browser that gave it proves the address.
    pub(crate) phc: Option<String>,
    /// SHA-256 of the cookie of that browser.
    pub(crate) browser: Vec<u8>,
    /// The public part of the link, once it is mailed.
    pub(crate) public_id: Option<String>,
    /// SHA-256 of its secret part.
    pub(crate) hash: Option<Vec<u8>>,
    /// A keyed hash of the code of the mail, which is needed in another browser.
    pub(crate) code_hmac: Option<Vec<u8>>,
    /// Codes that were tried.
    pub(crate) tries: i32,
    /// Until when the link is good.
    pub(crate) link_until: Moment,
    pub(crate) created_at: Moment,
    pub(crate) expires_at: Moment,
}

/// A link that was mailed, as it is stored.
pub(crate) struct Link {
    pub(crate) public_id: String,
    pub(crate) hash: Vec<u8>,
    pub(crate) code_hmac: Vec<u8>,
    pub(crate) until: Moment,
}

/// Stores the registration in the place of a former one with that address.
pub(crate) async fn replace(tx: &mut Tx, row: RegistrationRow) -> Result<(), DbError> {
    let former = registrations::email_normal.eq(row.email_normal.clone());
    on!(tx, |c| diesel::delete(registrations::table.filter(former))
        .execute(c)
        .await)?;
    on!(tx, |c| diesel::insert_into(registrations::table)
        .values(row)
        .execute(c)
        .await)
    .map(drop)
}

/// The registration with that address.
pub(crate) async fn find_by(
    tx: &mut Connection,
    email_normal: &str,
) -> Result<Option<RegistrationRow>, DbError> {
    let query =
        registrations::table.filter(registrations::email_normal.eq(email_normal.to_owned()));
    on!(tx, |c| query
        .select(RegistrationRow::as_select())
        .first(c)
        .await)
    .optional()
}

/// The registration whose link has that public part.
pub(crate) async fn find_public(
    tx: &mut Connection,
    public_id: &str,
) -> Result<Option<RegistrationRow>, DbError> {
    let query = registrations::table.filter(registrations::public_id.eq(public_id.to_owned()));
    on!(tx, |c| query
        .select(RegistrationRow::as_select())
        .first(c)
        .await)
    .optional()
}

/// Gives the registration a link, in the place of a former one.
pub(crate) async fn set_link(
    tx: &mut Tx,
    id: RegistrationId,
    link: Link,
) -> Result<usize, DbError> {
    let this_one = registrations::table.filter(registrations::id.eq(id));
    let update = diesel::update(this_one).set((
        registrations::public_id.eq(Some(link.public_id)),
        registrations::hash.eq(Some(link.hash)),
        registrations::code_hmac.eq(Some(link.code_hmac)),
        registrations::tries.eq(0),
        registrations::link_until.eq(link.until),
    ));
    on!(tx, |c| update.execute(c).await)
}

/// Takes one of `most` tries of the code; 0 if there is none left.
pub(crate) async fn take_try(tx: &mut Tx, id: RegistrationId, most: i32) -> Result<usize, DbError> {
    let open = registrations::id.eq(id).and(registrations::tries.lt(most));
    let update = diesel::update(registrations::table.filter(open))
        .set(registrations::tries.eq(registrations::tries + 1));
    on!(tx, |c| update.execute(c).await)
}

/// Ends the registration; 0 if another request did before.
pub(crate) async fn delete(tx: &mut Tx, id: RegistrationId) -> Result<usize, DbError> {
    on!(tx, |c| diesel::delete(
        registrations::table.filter(registrations::id.eq(id))
    )
    .execute(c)
    .await)
}

/// Deletes those that were over before `time`, at most `limit`; how many that were.
pub(crate) async fn delete_over(tx: &mut Tx, time: Moment, limit: i64) -> Result<usize, DbError> {
    let over = registrations::table
        .filter(registrations::expires_at.lt(time))
        .select(registrations::id)
        .limit(limit);
    let over: Vec<RegistrationId> = on!(tx, |c| over.load(c).await)?;
    on!(tx, |c| diesel::delete(
        registrations::table.filter(registrations::id.eq_any(over))
    )
    .execute(c)
    .await)
}
