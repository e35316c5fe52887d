//! Secrets of endpoints, sealed: the present one, and former ones that still count after a rotation.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::{
    db::{
        Connection, DbError, TenantId, TenantTx, Tx, insert_all, on,
        types::{Id, Moment},
    },
    sealing::{Sealed, SealedColumn},
};

use super::{endpoints::EndpointId, schema::webhook_secret as secret};

/// A mark for ids.
pub(crate) enum Secret {}

/// Where secrets lie.
pub(crate) const SECRETS: SealedColumn = SealedColumn::new("webhook_secret", "secret_enc");

#[derive(Insertable, Queryable, Selectable)]
#[diesel(table_name = secret, treat_none_as_default_value = false)]
pub(crate) struct SecretRow {
    pub(crate) tenant_id: TenantId,
    pub(crate) id: Id<Secret>,
    pub(crate) endpoint_id: EndpointId,
    pub(crate) secret_enc: Sealed<[u8]>,
    /// Of Ed25519: what the receiver has.
    pub(crate) public_key: Option<String>,
    pub(crate) created_at: Moment,
    pub(crate) expires_at: Option<Moment>,
}

pub(crate) async fn insert(tx: &mut TenantTx, row: SecretRow) -> Result<(), DbError> {
    insert_all!(tx, secret::table, vec![row]).map(drop)
}

/// What of a secret may be shown.
#[derive(Clone, Queryable)]
pub(crate) struct Shown {
    pub(crate) endpoint_id: EndpointId,
    pub(crate) public_key: Option<String>,
    pub(crate) expires_at: Option<Moment>,
}

/// Of all secrets of these endpoints of the tenant that count at `now`, the present ones first.
pub(crate) async fn shown(
    tx: &mut TenantTx,
    endpoints: Vec<EndpointId>,
    now: Moment,
) -> Result<Vec<Shown>, DbError> {
    let counts = secret::expires_at.is_null().or(secret::expires_at.gt(now));
    let query = secret::table
        .filter(secret::tenant_id.eq(tx.tenant()))
        .filter(secret::endpoint_id.eq_any(endpoints))
        .filter(counts)
        .order(secret::id.desc())
        .select((secret::endpoint_id, secret::public_key, secret::expires_at));
    on!(tx, |c| query.load(c).await)
}

/// The secrets of these endpoints that count at `now`, the newest first.
pub(crate) async fn of(
    c: &mut Connection,
    endpoints: Vec<EndpointId>,
    now: Moment,
) -> Result<Vec<SecretRow>, DbError> {
    let counts = secret::expires_at.is_null().or(secret::expires_at.gt(now));
    let query = secret::table
        .filter(secret::endpoint_id.eq_any(endpoints))
        .filter(counts)
        .order(secret::id.desc());
    on!(c, |c| {
        let query = query.select(SecretRow::as_select());
        query.load(c).await
    })
}

/// Lets the present secret of an endpoint count until then.
pub(crate) async fn retire(
    tx: &mut TenantTx,
    endpoint: EndpointId,
    until: Moment,
) -> Result<(), DbError> {
    let present = secret::tenant_id
        .eq(tx.tenant())
        .and(secret::endpoint_id.eq(endpoint))
        .and(secret::expires_at.is_null());
    let update = diesel::update(secret::table.filter(present)).set(secret::expires_at.eq(until));
    on!(tx, |c| update.execute(c).await).map(drop)
}

/// Deletes all secrets of an endpoint.
pub(crate) async fn delete_all(tx: &mut TenantTx, endpoint: EndpointId) -> Result<(), DbError> {
    let of_endpoint = secret::tenant_id
        .eq(tx.tenant())
        .and(secret::endpoint_id.eq(endpoint));
    let delete = diesel::delete(secret::table.filter(of_endpoint));
    on!(tx, |c| delete.execute(c).await).map(drop)
}

/// Deletes secrets that have not counted since then, of any tenants.
pub(crate) async fn delete_expired(tx: &mut Tx, before: Moment) -> Result<usize, DbError> {
    let expired = secret::table.filter(secret::expires_at.lt(before));
    on!(tx, |c| diesel::delete(expired).execute(c).await)
}
