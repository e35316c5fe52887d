//! API keys of service accounts and of people.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    Connection, DbError, OptionalExtension, TenantId, TenantTx, Tx, on,
    types::{Id, Json, Moment},
};
use serde::{Deserialize, Serialize};

use super::{
    bindings::Holder,
    held::of_holder,
    schema::api_keys,
    service_accounts::ServiceAccountId,
    slice::{Slice, sliced},
    users::UserId,
};

/// A mark for ids.
pub(crate) enum ApiKey {}

pub(crate) type ApiKeyId = Id<ApiKey>;

#[derive(Clone, Debug, Insertable, Queryable, Selectable)]
#[diesel(table_name = api_keys)]
pub(crate) struct ApiKeyRow {
    pub(crate) id: ApiKeyId,
    pub(crate) public_id: String,
    pub(crate) tenant_id: TenantId,
    pub(crate) user_id: Option<UserId>,
    pub(crate) service_account_id: Option<ServiceAccountId>,
    pub(crate) name: String,
    /// SHA-256 of the secret part.
    pub(crate) hash: Vec<u8>,
    /// That of the secret that takes its place, while both count.
    pub(crate) next_hash: Option<Vec<u8>>,
    /// Until when the former secret counts, along with the next one.
    pub(crate) hash_until: Option<Moment>,
    pub(crate) rules: Json<KeyRules>,
    pub(crate) version: i64,
    pub(crate) created_at: Moment,
    pub(crate) expires_at: Option<Moment>,
    pub(crate) last_used_at: Option<Moment>,
    pub(crate) next_last_used_at: Option<Moment>,
    pub(crate) revoked_at: Option<Moment>,
}

/// The limits of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyRules {
    /// Permissions, of which it has those that its owner has as well.
    pub(crate) scopes: Vec<String>,
    /// Networks that it may be used from; from everywhere if there is none.
    pub(crate) cidrs: Vec<ipnet::IpNet>,
    /// Its requests in a minute, over all routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) requests_per_minute: Option<u32>,
}

impl ApiKeyRow {
    /// Whose it is. A row has exactly one of both, which the table checks.
    pub(crate) fn holder(&self) -> Option<Holder> {
        let user = self.user_id.map(Holder::User);
        user.or(self.service_account_id.map(Holder::Service))
    }
}

pub(crate) async fn insert(tx: &mut TenantTx, row: &ApiKeyRow) -> Result<(), DbError> {
    on!(tx, |c| diesel::insert_into(api_keys::table)
        .values(row)
        .execute(c)
        .await)
    .map(drop)
}

pub(crate) async fn find(tx: &mut TenantTx, id: ApiKeyId) -> Result<Option<ApiKeyRow>, DbError> {
    let this_one = api_keys::tenant_id.eq(tx.tenant()).and(api_keys::id.eq(id));
    let query = api_keys::table.filter(this_one);
    on!(tx, |c| query.select(ApiKeyRow::as_select()).first(c).await).optional()
}

/// The key with that public part, whichever tenant it is of.
pub(crate) async fn find_public(
    tx: &mut Connection,
    public_id: &str,
) -> Result<Option<ApiKeyRow>, DbError> {
    let query = api_keys::table.filter(api_keys::public_id.eq(public_id.to_owned()));
    on!(tx, |c| query.select(ApiKeyRow::as_select()).first(c).await).optional()
}

/// At most `limit` keys that are not revoked; with `of` those of one holder.
pub(crate) async fn page(
    tx: &mut TenantTx,
    of: Option<Holder>,
    slice: Slice<ApiKeyId>,
) -> Result<Vec<ApiKeyRow>, DbError> {
    let tenant = tx.tenant();
    on!(tx, |c| {
        let query = api_keys::table
            .filter(api_keys::tenant_id.eq(tenant))
            .filter(api_keys::revoked_at.is_null())
            .select(ApiKeyRow::as_select())
            .into_boxed();
        let query = match of {
            Some(of) => of_holder!(query, api_keys, of),
            None => query,
        };
        sliced!(query, api_keys::id, slice).load(c).await
    })
}

/// The keys of `holder` that are not revoked.
pub(crate) async fn count_of(tx: &mut TenantTx, holder: Holder) -> Result<i64, DbError> {
    let tenant = tx.tenant();
    on!(tx, |c| {
        let query = api_keys::table
            .filter(api_keys::tenant_id.eq(tenant))
            .filter(api_keys::revoked_at.is_null())
            .count()
            .into_boxed();
        of_holder!(query, api_keys, holder).get_result(c).await
    })
}

/// The personal keys of the user in all tenants that are not revoked.
pub(crate) async fn personal(tx: &mut Tx, user: UserId) -> Result<Vec<ApiKeyRow>, DbError> {
    let those = api_keys::user_id
        .eq(user)
        .and(api_keys::revoked_at.is_null());
    let query = api_keys::table.filter(those).order(api_keys::id.asc());
    on!(tx, |c| query.select(ApiKeyRow::as_select()).load(c).await)
}

/// Revokes the key, whatever its version; 0 if it was revoked.
pub(crate) async fn revoke(tx: &mut Tx, id: ApiKeyId) -> Result<usize, DbError> {
    let this_one = api_keys::id.eq(id).and(api_keys::revoked_at.is_null());
    let update = diesel::update(api_keys::table.filter(this_one)).set((
        api_keys::revoked_at.eq(Some(Moment::now())),
        api_keys::version.eq(api_keys::version + 1),
    ));
    on!(tx, |c| update.execute(c).await)
}

/// Gives the key another secret; the former counts until `until`.
pub(crate) async fn rotate(
    tx: &mut TenantTx,
    key: &ApiKeyRow,
    new_hash: Vec<u8>,
    until: Moment,
) -> Result<usize, DbError> {
    let this_one = api_keys::tenant_id
        .eq(tx.tenant())
        .and(api_keys::id.eq(key.id))
        .and(api_keys::version.eq(key.version));
    // Of a key that is rotated twice the one in the middle goes on, and the oldest ends.
    let former = key.next_hash.clone().unwrap_or_else(|| key.hash.clone());
    let former_used = key.next_last_used_at.or(key.last_used_at);
    let update = diesel::update(api_keys::table.filter(this_one)).set((
        api_keys::hash.eq(former),
        api_keys::last_used_at.eq(former_used),
        api_keys::next_hash.eq(Some(new_hash)),
        api_keys::next_last_used_at.eq(None::<Moment>),
        api_keys::hash_until.eq(Some(until)),
        api_keys::version.eq(key.version + 1),
    ));
    on!(tx, |c| update.execute(c).await)
}

/// The key was used, by its former secret or by the next one.
pub(crate) async fn touch(
    tx: &mut Tx,
    id: ApiKeyId,
    is_next: bool,
    at: Moment,
) -> Result<usize, DbError> {
    let this_one = api_keys::table.filter(api_keys::id.eq(id));
    if is_next {
        let update = diesel::update(this_one).set(api_keys::next_last_used_at.eq(Some(at)));
        on!(tx, |c| update.execute(c).await)
    } else {
        let update = diesel::update(this_one).set(api_keys::last_used_at.eq(Some(at)));
        on!(tx, |c| update.execute(c).await)
    }
}
