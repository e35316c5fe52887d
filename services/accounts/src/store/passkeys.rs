//! Passkeys of users, as their authenticators registered them.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    Connection, DbError, OptionalExtension, Tx, on,
    types::{Id, Moment},
};

use super::{schema::passkeys, users::UserId, version_at};

/// A mark for ids.
pub(crate) enum Passkey {}

pub(crate) type PasskeyId = Id<Passkey>;

#[derive(Clone, Debug, Insertable, Queryable, Selectable)]
#[diesel(table_name = passkeys)]
pub(crate) struct PasskeyRow {
    pub(crate) id: PasskeyId,
    pub(crate) user_id: UserId,
    /// What authenticators know the user by.
    pub(crate) user_handle: Vec<u8>,
    pub(crate) credential_id: Vec<u8>,
    /// The public key, and what was agreed upon at the registration.
    pub(crate) data: Vec<u8>,
    /// A set of bits: how the authenticator is reached.
    pub(crate) transports: i32,
    /// The model of the authenticator, as it says.
    pub(crate) aaguid: String,
    pub(crate) label: Option<String>,
    /// Whether it is found without a user name; `None` if the browser did not say.
    pub(crate) discoverable: Option<bool>,
    pub(crate) backup_eligible: bool,
    pub(crate) backup_state: bool,
    /// How often it was used, as it says; many say 0 for ever.
    pub(crate) sign_count: i64,
    pub(crate) created_at: Moment,
    pub(crate) last_used_at: Option<Moment>,
    /// The administrator who had set the password of the user then.
    pub(crate) vouched_by: Option<UserId>,
}

impl PasskeyRow {
    /// Grows with each use.
    pub(crate) fn version(&self) -> i64 {
        version_at(self.last_used_at.unwrap_or(self.created_at))
    }
}

/// What a passkey says of itself each time that it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PasskeyState {
    pub(crate) backup_eligible: bool,
    pub(crate) backup_state: bool,
    pub(crate) sign_count: i64,
}

pub(crate) async fn insert(tx: &mut Tx, row: &PasskeyRow) -> Result<(), DbError> {
    on!(tx, |c| diesel::insert_into(passkeys::table)
        .values(row)
        .execute(c)
        .await)
    .map(drop)
}

/// All of a user, the oldest first.
pub(crate) async fn of_user(c: &mut Connection, user: UserId) -> Result<Vec<PasskeyRow>, DbError> {
    let query = passkeys::table
        .filter(passkeys::user_id.eq(user))
        .order((passkeys::created_at.asc(), passkeys::id.asc()));
    on!(c, |c| query.select(PasskeyRow::as_select()).load(c).await)
}

/// How many a user has.
pub(crate) async fn count(c: &mut Connection, user: UserId) -> Result<i64, DbError> {
    let query = passkeys::table.filter(passkeys::user_id.eq(user)).count();
    on!(c, |c| query.get_result(c).await)
}

pub(crate) async fn find(
    c: &mut Connection,
    credential_id: Vec<u8>,
) -> Result<Option<PasskeyRow>, DbError> {
    let query = passkeys::table.filter(passkeys::credential_id.eq(credential_id));
    on!(c, |c| query.select(PasskeyRow::as_select()).first(c).await).optional()
}

/// One of the user.
pub(crate) async fn find_own(
    c: &mut Connection,
    user: UserId,
    id: PasskeyId,
) -> Result<Option<PasskeyRow>, DbError> {
    let query = passkeys::table.find(id).filter(passkeys::user_id.eq(user));
    on!(c, |c| query.select(PasskeyRow::as_select()).first(c).await).optional()
}

/// The passkey was used, whose counter was `from`; 0 if it is gone, or if another request used it meanwhile.
pub(crate) async fn used(
    tx: &mut Tx,
    id: PasskeyId,
    from: i64,
    state: PasskeyState,
) -> Result<usize, DbError> {
    let this_one = passkeys::id.eq(id).and(passkeys::sign_count.eq(from));
    let update = diesel::update(passkeys::table.filter(this_one)).set((
        passkeys::backup_eligible.eq(state.backup_eligible),
        passkeys::backup_state.eq(state.backup_state),
        passkeys::sign_count.eq(state.sign_count),
        passkeys::last_used_at.eq(Some(Moment::now())),
    ));
    on!(tx, |c| update.execute(c).await)
}

/// Deletes one of the user; 0 if there is none.
pub(crate) async fn delete(tx: &mut Tx, user: UserId, id: PasskeyId) -> Result<usize, DbError> {
    let this_one = passkeys::id.eq(id).and(passkeys::user_id.eq(user));
    on!(tx, |c| diesel::delete(passkeys::table.filter(this_one))
        .execute(c)
        .await)
}

/// Deletes those of the user that were not there before `time`; how many that were.
pub(crate) async fn delete_since(
    tx: &mut Tx,
    user: UserId,
    time: Moment,
) -> Result<usize, DbError> {
    let later = passkeys::user_id
        .eq(user)
        .and(passkeys::created_at.ge(time));
    on!(tx, |c| diesel::delete(passkeys::table.filter(later))
        .execute(c)
        .await)
}

/// Deletes all of the user; how many that were.
pub(crate) async fn delete_all(tx: &mut Tx, user: UserId) -> Result<usize, DbError> {
    on!(tx, |c| diesel::delete(
        passkeys::table.filter(passkeys::user_id.eq(user))
    )
    .execute(c)
    .await)
}
