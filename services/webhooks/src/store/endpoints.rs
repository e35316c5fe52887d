//! Endpoints: where deliveries go, and what they are for.

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::{
    db::{
        Connection, DbError, OptionalExtension, TenantId, TenantTx, Tx, insert_all, on,
        types::{Id, Json, Moment},
    },
    sealing::{Sealed, SealedColumn},
};

use super::{
    schema::webhook_endpoint as endpoint,
    states::{EndpointState, Signing},
};

/// A mark for ids.
pub(crate) enum Endpoint {}

pub(crate) type EndpointId = Id<Endpoint>;

/// Headers of an endpoint, by their names in lower case.
pub(crate) type Headers = BTreeMap<String, String>;

/// Where the values of headers lie.
pub(crate) const HEADERS: SealedColumn = SealedColumn::new("webhook_endpoint", "headers_enc");

#[derive(Insertable, Queryable, Selectable)]
#[diesel(table_name = endpoint, treat_none_as_default_value = false)]
pub(crate) struct EndpointRow {
    pub(crate) tenant_id: TenantId,
    pub(crate) id: EndpointId,
    pub(crate) url: String,
    pub(crate) description: String,
    pub(crate) events: Json<Vec<String>>,
    pub(crate) header_names: Json<Vec<String>>,
    pub(crate) headers_enc: Option<Sealed<str>>,
    pub(crate) signing: Signing,
    pub(crate) state: EndpointState,
    pub(crate) state_reason: Option<String>,
    pub(crate) version: i64,
    pub(crate) created_at: Moment,
    pub(crate) updated_at: Moment,
}

/// What a change of an endpoint leaves it with.
pub(crate) struct Change {
    pub(crate) url: String,
    pub(crate) description: String,
    pub(crate) events: Json<Vec<String>>,
    pub(crate) header_names: Json<Vec<String>>,
    /// `None` if the headers stay as they are.
    pub(crate) headers_enc: Option<Option<Sealed<str>>>,
}

pub(crate) async fn insert(tx: &mut TenantTx, row: EndpointRow) -> Result<(), DbError> {
    insert_all!(tx, endpoint::table, vec![row]).map(drop)
}

/// How many the tenant has.
pub(crate) async fn count(tx: &mut TenantTx) -> Result<i64, DbError> {
    let of_tenant = endpoint::tenant_id
        .eq(tx.tenant())
        .and(endpoint::state.ne(EndpointState::Deleted));
    let query = endpoint::table.filter(of_tenant).count();
    on!(tx, |c| query.get_result(c).await)
}

/// The endpoint of that id, unless it is deleted.
pub(crate) async fn find(
    tx: &mut TenantTx,
    id: EndpointId,
) -> Result<Option<EndpointRow>, DbError> {
    let this_one = endpoint::table
        .find((tx.tenant(), id))
        .filter(endpoint::state.ne(EndpointState::Deleted));
    let query = this_one;
    on!(tx, |c| {
        let query = query.select(EndpointRow::as_select());
        query.first(c).await
    })
    .optional()
}

/// At most `limit`, the newest first, those that were made before the endpoint `before`.
pub(crate) async fn page(
    tx: &mut TenantTx,
    before: Option<EndpointId>,
    limit: i64,
) -> Result<Vec<EndpointRow>, DbError> {
    let of_tenant = endpoint::tenant_id
        .eq(tx.tenant())
        .and(endpoint::state.ne(EndpointState::Deleted));
    on!(tx, |c| {
        let query = endpoint::table.filter(of_tenant).limit(limit).into_boxed();
        let query = match before {
            Some(before) => query.filter(endpoint::id.lt(before)),
            None => query,
        };
        let query = query.order(endpoint::id.desc());
        query.select(EndpointRow::as_select()).load(c).await
    })
}

/// What the fan-out needs of an endpoint.
#[derive(Queryable)]
pub(crate) struct Listener {
    pub(crate) id: EndpointId,
    pub(crate) events: Json<Vec<String>>,
    pub(crate) state: EndpointState,
}

/// All endpoints of a tenant that are not deleted.
pub(crate) async fn listeners(tx: &mut Tx, tenant: TenantId) -> Result<Vec<Listener>, DbError> {
    let of_tenant = endpoint::tenant_id
        .eq(tenant)
        .and(endpoint::state.ne(EndpointState::Deleted));
    let query =
        endpoint::table
            .filter(of_tenant)
            .select((endpoint::id, endpoint::events, endpoint::state));
    on!(tx, |c| query.load(c).await)
}

/// These endpoints, of any tenants.
pub(crate) async fn of(
    c: &mut Connection,
    ids: Vec<EndpointId>,
) -> Result<Vec<EndpointRow>, DbError> {
    let query = endpoint::table.filter(endpoint::id.eq_any(ids));
    on!(c, |c| {
        let query = query.select(EndpointRow::as_select());
        query.load(c).await
    })
}

/// Stores a change, if the endpoint is still in that version; how many rows that were.
pub(crate) async fn update(
    tx: &mut TenantTx,
    id: EndpointId,
    version: i64,
    change: Change,
) -> Result<usize, DbError> {
    let this_one = endpoint::table
        .find((tx.tenant(), id))
        .filter(endpoint::version.eq(version));
    let row = (
        endpoint::url.eq(change.url),
        endpoint::description.eq(change.description),
        endpoint::events.eq(change.events),
        endpoint::header_names.eq(change.header_names),
        endpoint::version.eq(version + 1),
        endpoint::updated_at.eq(Moment::now()),
    );
    let changed = on!(tx, |c| diesel::update(this_one).set(row).execute(c).await)?;
    let Some(headers) = change.headers_enc.filter(|_| changed > 0) else {
        return Ok(changed);
    };
    let this_one = endpoint::table.find((tx.tenant(), id));
    on!(tx, |c| {
        let row = endpoint::headers_enc.eq(headers);
        diesel::update(this_one).set(row).execute(c).await
    })
}

/// Sets the state, with its reason, if it is in one of `from` now; how many rows that were. Its version goes up.
pub(crate) async fn set_state(
    tx: &mut TenantTx,
    id: EndpointId,
    from: &[EndpointState],
    to: EndpointState,
    reason: Option<String>,
) -> Result<usize, DbError> {
    let this_one = endpoint::table
        .find((tx.tenant(), id))
        .filter(endpoint::state.eq_any(from.to_vec()));
    let row = (
        endpoint::state.eq(to),
        endpoint::state_reason.eq(reason),
        endpoint::version.eq(endpoint::version + 1_i64),
        endpoint::updated_at.eq(Moment::now()),
    );
    on!(tx, |c| diesel::update(this_one).set(row).execute(c).await)
}

/// The tenant of an endpoint of any tenant: for operators.
pub(crate) async fn tenant_of(
    c: &mut Connection,
    id: EndpointId,
) -> Result<Option<TenantId>, DbError> {
    let query = endpoint::table
        .filter(endpoint::id.eq(id))
        .select(endpoint::tenant_id);
    on!(c, |c| query.first(c).await).optional()
}

/// An endpoint of any tenant, as operators see it: without what its owner may have put into its URL.
#[derive(Queryable)]
pub(crate) struct Listed {
    pub(crate) tenant: TenantId,
    pub(crate) id: EndpointId,
    pub(crate) url: String,
    pub(crate) events: Json<Vec<String>>,
    pub(crate) state: EndpointState,
    pub(crate) state_reason: Option<String>,
}

/// At most `limit` endpoints of one tenant, or of all.
pub(crate) async fn list_all(
    c: &mut Connection,
    tenant: Option<TenantId>,
    limit: i64,
) -> Result<Vec<Listed>, DbError> {
    on!(c, |c| {
        let query = endpoint::table
            .filter(endpoint::state.ne(EndpointState::Deleted))
            .limit(limit)
            .into_boxed();
        let query = match tenant {
            Some(tenant) => query.filter(endpoint::tenant_id.eq(tenant)),
            None => query,
        };
        let query = query.order(endpoint::id.desc()).select((
            endpoint::tenant_id,
            endpoint::id,
            endpoint::url,
            endpoint::events,
            endpoint::state,
            endpoint::state_reason,
        ));
        query.load(c).await
    })
}

/// Deleted endpoints, the oldest first.
pub(crate) async fn deleted(
    tx: &mut Tx,
    most: i64,
) -> Result<Vec<(TenantId, EndpointId)>, DbError> {
    let query = endpoint::table
        .filter(endpoint::state.eq(EndpointState::Deleted))
        .order(endpoint::updated_at)
        .limit(most)
        .select((endpoint::tenant_id, endpoint::id));
    on!(tx, |c| query.load(c).await)
}

/// Takes an endpoint away that has no deliveries left.
pub(crate) async fn remove(tx: &mut Tx, tenant: TenantId, id: EndpointId) -> Result<(), DbError> {
    let this_one = endpoint::table.find((tenant, id));
    on!(tx, |c| diesel::delete(this_one).execute(c).await).map(drop)
}

/// How many endpoints are in each state, of all tenants.
pub(crate) async fn count_by_state(
    c: &mut Connection,
) -> Result<Vec<(EndpointState, i64)>, DbError> {
    let query = endpoint::table
        .group_by(endpoint::state)
        .select((endpoint::state, diesel::dsl::count_star()));
    on!(c, |c| query.load(c).await)
}
