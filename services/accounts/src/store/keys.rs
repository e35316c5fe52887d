//! Keys of the program: those that sign access tokens, and those that refresh tokens are derived with. Both lie here sealed; the
//! private parts of the former in Vault, if it is there.

use diesel::{dsl::max, prelude::*};
use diesel_async::RunQueryDsl;
use dotmac_platform::{
    db::{
        Connection, DbError, Tx, on,
        types::{Id, Json, Moment},
    },
    sealing::{Sealed, SealedColumn},
};

use super::schema::{secret_keys, signing_keys};

/// A mark for ids.
pub(crate) enum HouseKey {}

pub(crate) type HouseKeyId = Id<HouseKey>;

/// Where private signing keys lie.
pub(crate) const PRIVATE: SealedColumn = SealedColumn::new("signing_keys", "private_enc");

/// Where the secrets of refresh tokens lie.
pub(crate) const SECRET: SealedColumn = SealedColumn::new("secret_keys", "secret_enc");

#[derive(Insertable, Queryable, Selectable)]
#[diesel(table_name = signing_keys)]
pub(crate) struct SigningKeyRow {
    pub(crate) id: HouseKeyId,
    pub(crate) kid: String,
    pub(crate) alg: String,
    pub(crate) public_jwk: Json<serde_json::Value>,
    /// Empty if it is in Vault.
    pub(crate) private_enc: Sealed<[u8]>,
    pub(crate) in_vault: bool,
    pub(crate) created_at: Moment,
    pub(crate) activate_at: Moment,
    pub(crate) retire_at: Option<Moment>,
    pub(crate) revoked_at: Option<Moment>,
}

#[derive(Insertable, Queryable, Selectable)]
#[diesel(table_name = secret_keys)]
pub(crate) struct SecretKeyRow {
    pub(crate) id: HouseKeyId,
    pub(crate) number: i32,
    pub(crate) secret_enc: Sealed<[u8]>,
    pub(crate) created_at: Moment,
}

/// All signing keys that still count at `now`, the oldest first.
pub(crate) async fn signing(
    tx: &mut Connection,
    now: Moment,
) -> Result<Vec<SigningKeyRow>, DbError> {
    let query = signing_keys::table
        .filter(signing_keys::revoked_at.is_null())
        .filter(
            signing_keys::retire_at
                .is_null()
                .or(signing_keys::retire_at.gt(now)),
        )
        .order((signing_keys::activate_at.asc(), signing_keys::id.asc()))
        .limit(100);
    on!(tx, |c| query
        .select(SigningKeyRow::as_select())
        .load(c)
        .await)
}

pub(crate) async fn insert_signing(tx: &mut Tx, row: SigningKeyRow) -> Result<(), DbError> {
    on!(tx, |c| diesel::insert_into(signing_keys::table)
        .values(row)
        .execute(c)
        .await)
    .map(drop)
}

/// Lets the key count until `time` and no longer.
pub(crate) async fn retire(tx: &mut Tx, id: HouseKeyId, time: Moment) -> Result<usize, DbError> {
    let this_one = signing_keys::id
        .eq(id)
        .and(signing_keys::retire_at.is_null());
    let update = diesel::update(signing_keys::table.filter(this_one))
        .set(signing_keys::retire_at.eq(Some(time)));
    on!(tx, |c| update.execute(c).await)
}

/// Lets the key count no longer.
pub(crate) async fn revoke(tx: &mut Tx, kid: String) -> Result<usize, DbError> {
    let this_one = signing_keys::kid
        .eq(kid)
        .and(signing_keys::revoked_at.is_null());
    let update = diesel::update(signing_keys::table.filter(this_one))
        .set(signing_keys::revoked_at.eq(Some(Moment::now())));
    on!(tx, |c| update.execute(c).await)
}

/// All secrets of refresh tokens, by their numbers.
pub(crate) async fn secrets(tx: &mut Connection) -> Result<Vec<SecretKeyRow>, DbError> {
    let query = secret_keys::table
        .order(secret_keys::number.asc())
        .limit(256);
    on!(tx, |c| query
        .select(SecretKeyRow::as_select())
        .load(c)
        .await)
}

pub(crate) async fn next_number(tx: &mut Tx) -> Result<i32, DbError> {
    let last: Option<i32> = on!(tx, |c| secret_keys::table
        .select(max(secret_keys::number))
        .first(c)
        .await)?;
    Ok(last.map_or(1, |last| last + 1))
}

pub(crate) async fn insert_secret(tx: &mut Tx, row: SecretKeyRow) -> Result<(), DbError> {
    on!(tx, |c| diesel::insert_into(secret_keys::table)
        .values(row)
        .execute(c)
        .await)
    .map(drop)
}
