//! Second factors: one authenticator app of a user, and codes for the day on which app or passkeys are lost.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::{
    db::{
        Connection, DbError, OptionalExtension, Tx, insert_all, on,
        types::{Id, Moment},
    },
    sealing::{Sealed, SealedColumn},
};

use super::{
    passkeys,
    schema::{recovery_codes as codes, totp_factors as totp},
    users::UserId,
    version_at,
};

/// A mark for ids.
pub(crate) enum Totp {}

/// Where the secrets of authenticator apps lie.
pub(crate) const TOTP: SealedColumn = SealedColumn::new("totp_factors", "secret_enc");

#[derive(Insertable, Queryable, Selectable)]
#[diesel(table_name = totp)]
pub(crate) struct TotpRow {
    pub(crate) id: Id<Totp>,
    pub(crate) user_id: UserId,
    pub(crate) label: Option<String>,
    pub(crate) secret_enc: Sealed<[u8]>,
    /// The last step of 30 s of which a code was used: that one and those before count no more.
    pub(crate) last_step: i64,
    pub(crate) created_at: Moment,
    /// Empty until a first code has proved that the app has the secret.
    pub(crate) confirmed_at: Option<Moment>,
}

impl TotpRow {
    /// Grows when the app is confirmed; nothing else changes of it.
    pub(crate) fn version(&self) -> i64 {
        version_at(self.confirmed_at.unwrap_or(self.created_at))
    }
}

#[derive(Insertable, Queryable, Selectable)]
#[diesel(table_name = codes)]
pub(crate) struct CodeRow {
    pub(crate) user_id: UserId,
    pub(crate) number: i32,
    pub(crate) phc: String,
    pub(crate) used_at: Option<Moment>,
}

pub(crate) async fn insert_totp(tx: &mut Tx, row: TotpRow) -> Result<(), DbError> {
    insert_all!(tx, totp::table, vec![row]).map(drop)
}

pub(crate) async fn totp_of(c: &mut Connection, user: UserId) -> Result<Option<TotpRow>, DbError> {
    let query = totp::table.filter(totp::user_id.eq(user));
    on!(c, |c| query.select(TotpRow::as_select()).first(c).await).optional()
}

/// The second factors of a user that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// Whether there is an app.
    pub(crate) totp: bool,
    /// How many passkeys there are.
    pub(crate) passkeys: i64,
}

impl Held {
    /// Whether there is one.
    pub(crate) const fn any(self) -> bool {
        self.totp || self.passkeys > 0
    }

    /// How strong an authentication must be that changes what the user signs in by: with the second factor, if there is one.
    pub(crate) const fn needed(self) -> u8 {
        if self.any() { 2 } else { 1 }
    }
}

pub(crate) async fn held(c: &mut Connection, user: UserId) -> Result<Held, DbError> {
    Ok(Held {
        totp: has_totp(c, user).await?,
        passkeys: passkeys::count(c, user).await?,
    })
}

pub(crate) async fn has_totp(c: &mut Connection, user: UserId) -> Result<bool, DbError> {
    let confirmed = totp::user_id.eq(user).and(totp::confirmed_at.is_not_null());
    let query = totp::table.filter(confirmed).select(totp::id);
    let found: Option<Id<Totp>> = on!(c, |c| query.first(c).await).optional()?;
    Ok(found.is_some())
}

/// Uses the step up; 0 if one as late was used before.
pub(crate) async fn use_step(tx: &mut Tx, id: Id<Totp>, step: i64) -> Result<usize, DbError> {
    let later = totp::id.eq(id).and(totp::last_step.lt(step));
    let update = diesel::update(totp::table.filter(later)).set(totp::last_step.eq(step));
    on!(tx, |c| update.execute(c).await)
}

/// Lets it count from now on; 0 if it does.
pub(crate) async fn confirm_totp(tx: &mut Tx, id: Id<Totp>) -> Result<usize, DbError> {
    let pending = totp::id.eq(id).and(totp::confirmed_at.is_null());
    let update =
        diesel::update(totp::table.filter(pending)).set(totp::confirmed_at.eq(Some(Moment::now())));
    on!(tx, |c| update.execute(c).await)
}

/// Deletes an app that does not count yet.
pub(crate) async fn delete_pending_totp(tx: &mut Tx, user: UserId) -> Result<usize, DbError> {
    let pending = totp::user_id.eq(user).and(totp::confirmed_at.is_null());
    on!(tx, |c| diesel::delete(totp::table.filter(pending))
        .execute(c)
        .await)
}

pub(crate) async fn delete_totp(tx: &mut Tx, user: UserId) -> Result<usize, DbError> {
    on!(tx, |c| diesel::delete(
        totp::table.filter(totp::user_id.eq(user))
    )
    .execute(c)
    .await)
}

/// Deletes an app that was not confirmed before `time`.
pub(crate) async fn delete_totp_since(
    tx: &mut Tx,
    user: UserId,
    time: Moment,
) -> Result<usize, DbError> {
    let later = totp::confirmed_at
        .is_null()
        .or(totp::confirmed_at.ge(Some(time)));
    let apps = totp::table.filter(totp::user_id.eq(user)).filter(later);
    on!(tx, |c| diesel::delete(apps).execute(c).await)
}

/// Puts codes in the place of all that there were.
pub(crate) async fn replace_codes(
    tx: &mut Tx,
    user: UserId,
    rows: Vec<CodeRow>,
) -> Result<(), DbError> {
    on!(tx, |c| diesel::delete(
        codes::table.filter(codes::user_id.eq(user))
    )
    .execute(c)
    .await)?;
    if rows.is_empty() {
        return Ok(());
    }
    insert_all!(tx, codes::table, rows).map(drop)
}

/// The hash of a code that was not used.
pub(crate) async fn code(
    c: &mut Connection,
    user: UserId,
    number: i32,
) -> Result<Option<String>, DbError> {
    let this_one = codes::user_id
        .eq(user)
        .and(codes::number.eq(number))
        .and(codes::used_at.is_null());
    let query = codes::table.filter(this_one).select(codes::phc);
    on!(c, |c| query.first(c).await).optional()
}

/// Uses the code with that hash up; 0 if another request did before, or if another code has its number now.
pub(crate) async fn use_code(
    tx: &mut Tx,
    user: UserId,
    number: i32,
    phc: &str,
) -> Result<usize, DbError> {
    let this_one = codes::user_id
        .eq(user)
        .and(codes::number.eq(number))
        .and(codes::phc.eq(phc.to_owned()))
        .and(codes::used_at.is_null());
    let update =
        diesel::update(codes::table.filter(this_one)).set(codes::used_at.eq(Some(Moment::now())));
    on!(tx, |c| update.execute(c).await)
}

/// How many codes were not used.
pub(crate) async fn codes_left(c: &mut Connection, user: UserId) -> Result<i64, DbError> {
    let left = codes::user_id.eq(user).and(codes::used_at.is_null());
    let query = codes::table.filter(left).count();
    on!(c, |c| query.get_result(c).await)
}
