//! Deliveries, as requests see them. What the sender does with them is in `claims`.

use diesel::{
    prelude::*,
    sql_query,
    sql_types::{BigInt, Nullable, Text, Timestamp},
};
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    Connection, DbError, OptionalExtension, Querying as _, TenantId, TenantTx, Tx, on, prepared,
    records,
    types::{Id, Moment, sql::Uuid},
};
use serde::Serialize;

use super::{
    endpoints::EndpointId, messages::MessageId, schema::webhook_delivery as delivery,
    states::DeliveryState,
};

/// A mark for ids.
pub(crate) enum Delivery {}

pub(crate) type DeliveryId = Id<Delivery>;

#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = delivery)]
pub(crate) struct DeliveryRow {
    pub(crate) id: DeliveryId,
    pub(crate) endpoint_id: EndpointId,
    pub(crate) message_id: MessageId,
    pub(crate) kind: String,
    pub(crate) state: DeliveryState,
    pub(crate) due_at: Moment,
    pub(crate) attempts: i32,
    pub(crate) created_at: Moment,
    pub(crate) finished_at: Option<Moment>,
    pub(crate) last_status: Option<i32>,
    pub(crate) last_error: Option<String>,
}

/// A delivery to be.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct NewDelivery {
    pub(crate) tenant_id: TenantId,
    pub(crate) id: DeliveryId,
    pub(crate) endpoint_id: EndpointId,
    pub(crate) message_id: MessageId,
    pub(crate) kind: String,
    pub(crate) state: DeliveryState,
    /// Why it fails before it was tried.
    pub(crate) last_error: Option<String>,
}

/// Inserts deliveries, but for those that an endpoint has of the message already; how many.
pub(crate) async fn insert(
    tx: &mut Tx,
    rows: &[NewDelivery],
    now: Moment,
) -> Result<usize, DbError> {
    let fields = [
        ("tenant_id", "uuid"),
        ("id", "uuid"),
        ("endpoint_id", "uuid"),
        ("message_id", "uuid"),
        ("kind", "text"),
        ("state", "text"),
        ("last_error", "text"),
    ];
    let query = sql_query(format!(
        "INSERT INTO webhook_delivery (tenant_id, id, endpoint_id, message_id, kind, state, last_error, due_at, created_at, \
         finished_at) SELECT r.tenant_id, r.id, r.endpoint_id, r.message_id, r.kind, r.state, r.last_error, $1, $1, \
         CASE r.state WHEN 'failed' THEN $1 END FROM {} WHERE true \
         ON CONFLICT (tenant_id, endpoint_id, message_id) DO NOTHING",
        records::relation(tx.connection(), "$2", &fields)
    ));
    let rows = serde_json::to_string(rows).unwrap_or_default();
    let query = query.bind::<Timestamp, _>(now).bind::<Text, _>(rows);
    on!(tx, |c| prepared(query).execute(c).await)
}

pub(crate) async fn find(
    tx: &mut TenantTx,
    id: DeliveryId,
) -> Result<Option<DeliveryRow>, DbError> {
    let this_one = delivery::table.find((tx.tenant(), id));
    let query = this_one;
    on!(tx, |c| {
        let query = query.select(DeliveryRow::as_select());
        query.first(c).await
    })
    .optional()
}

/// The tenant of a delivery of any tenant: for operators.
pub(crate) async fn tenant_of(
    c: &mut Connection,
    id: DeliveryId,
) -> Result<Option<TenantId>, DbError> {
    let query = delivery::table
        .filter(delivery::id.eq(id))
        .select(delivery::tenant_id);
    on!(c, |c| query.first(c).await).optional()
}

/// Which deliveries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) endpoint: Option<EndpointId>,
    pub(crate) state: Option<DeliveryState>,
    pub(crate) kind: Option<String>,
}

/// At most `limit`, the newest first, those that were made before the delivery `before`.
pub(crate) async fn page(
    tx: &mut TenantTx,
    filter: Filter,
    before: Option<DeliveryId>,
    limit: i64,
) -> Result<Vec<DeliveryRow>, DbError> {
    let of_tenant = delivery::tenant_id.eq(tx.tenant());
    on!(tx, |c| {
        let mut query = delivery::table.filter(of_tenant).limit(limit).into_boxed();
        if let Some(before) = before {
            query = query.filter(delivery::id.lt(before));
        }
        if let Some(endpoint) = filter.endpoint {
            query = query.filter(delivery::endpoint_id.eq(endpoint));
        }
        if let Some(state) = filter.state {
            query = query.filter(delivery::state.eq(state));
        }
        if let Some(kind) = filter.kind {
            query = query.filter(delivery::kind.eq(kind));
        }
        let query = query.order(delivery::id.desc());
        query.select(DeliveryRow::as_select()).load(c).await
    })
}

/// Starts a delivery again, unless an attempt is under way; how many rows that were.
pub(crate) async fn replay(
    tx: &mut TenantTx,
    id: DeliveryId,
    now: Moment,
) -> Result<usize, DbError> {
    let this_one = delivery::table
        .find((tx.tenant(), id))
        .filter(delivery::state.ne(DeliveryState::Sending));
    let row = (
        delivery::state.eq(DeliveryState::Pending),
        delivery::due_at.eq(now),
        delivery::tries.eq(0),
        delivery::interruptions.eq(0),
        delivery::finished_at.eq(None::<Moment>),
    );
    on!(tx, |c| diesel::update(this_one).set(row).execute(c).await)
}

/// Starts at most `most` deliveries of an endpoint again that were made since then, and failed or wait for another attempt;
/// how many.
pub(crate) async fn recover(
    tx: &mut TenantTx,
    endpoint: EndpointId,
    since: Moment,
    now: Moment,
    most: i64,
) -> Result<usize, DbError> {
    let query = sql_query(
        "UPDATE webhook_delivery SET state = 'pending', due_at = $1, tries = 0, interruptions = 0, finished_at = NULL \
         WHERE tenant_id = $2 AND id IN (SELECT id FROM webhook_delivery WHERE tenant_id = $2 AND endpoint_id = $3 \
         AND created_at >= $4 AND (state = 'failed' OR (state = 'pending' AND tries > 0)) ORDER BY id LIMIT $5) \
         AND (state = 'failed' OR (state = 'pending' AND tries > 0))",
    );
    let query = query
        .bind::<Timestamp, _>(now)
        .bind::<Uuid, _>(tx.tenant())
        .bind::<Uuid, _>(endpoint)
        .bind::<Timestamp, _>(since)
        .bind::<BigInt, _>(most);
    on!(tx, |c| query.execute(c).await)
}

/// How many deliveries of an endpoint there are in each state, made since then.
pub(crate) async fn count(
    tx: &mut TenantTx,
    endpoint: EndpointId,
    since: Moment,
) -> Result<Vec<(DeliveryState, i64)>, DbError> {
    let recent = delivery::tenant_id
        .eq(tx.tenant())
        .and(delivery::endpoint_id.eq(endpoint))
        .and(delivery::created_at.ge(since));
    let query = delivery::table
        .filter(recent)
        .group_by(delivery::state)
        .select((delivery::state, diesel::dsl::count_star()));
    on!(tx, |c| query.load(c).await)
}

/// Deletes at most `most` deliveries that were made before then, with their attempts, but for those that are being sent.
pub(crate) async fn delete_older(tx: &mut Tx, before: Moment, most: i64) -> Result<usize, DbError> {
    let query = sql_query(
        "DELETE FROM webhook_delivery WHERE (tenant_id, id) IN (SELECT tenant_id, id FROM webhook_delivery \
         WHERE created_at < $1 AND state <> 'sending' ORDER BY created_at LIMIT $2)",
    );
    let query = query.bind::<Timestamp, _>(before).bind::<BigInt, _>(most);
    on!(tx, |c| query.execute(c).await)
}

/// Deletes at most `most` deliveries of an endpoint, with their attempts.
pub(crate) async fn delete_of(
    tx: &mut Tx,
    tenant: TenantId,
    endpoint: EndpointId,
    most: i64,
) -> Result<usize, DbError> {
    let query = sql_query(
        "DELETE FROM webhook_delivery WHERE tenant_id = $1 AND id IN (SELECT id FROM webhook_delivery \
         WHERE tenant_id = $1 AND endpoint_id = $2 ORDER BY id LIMIT $3)",
    );
    let query = query
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(endpoint)
        .bind::<BigInt, _>(most);
    on!(tx, |c| query.execute(c).await)
}

/// What all deliveries that wait look like, of all tenants.
#[derive(Clone, Debug, Default, QueryableByName)]
pub(crate) struct Backlog {
    /// Deliveries that wait.
    #[diesel(sql_type = BigInt)]
    pub(crate) pending: i64,
    /// Attempts that are under way.
    #[diesel(sql_type = BigInt)]
    pub(crate) sending: i64,
}

pub(crate) async fn backlog(c: &mut Connection) -> Result<Backlog, DbError> {
    let query = sql_query(
        "SELECT (SELECT count(*) FROM webhook_delivery WHERE state = 'pending') AS pending, \
         (SELECT count(*) FROM webhook_delivery WHERE state = 'sending') AS sending",
    );
    on!(c, |c| query.get_result(c).await)
}

/// When the oldest delivery was due that could be sent at `now`: its endpoint is active and not held.
pub(crate) async fn oldest_due(c: &mut Connection, now: Moment) -> Result<Option<Moment>, DbError> {
    #[derive(QueryableByName)]
    struct Oldest {
        #[diesel(sql_type = Nullable<Timestamp>)]
        due_at: Option<Moment>,
    }
    let query = sql_query(
        "SELECT min(d.due_at) AS due_at FROM webhook_delivery AS d JOIN webhook_lane AS l ON l.endpoint_id = d.endpoint_id \
         JOIN webhook_endpoint AS e ON e.tenant_id = d.tenant_id AND e.id = d.endpoint_id WHERE d.state = 'pending' \
         AND d.due_at <= $1 AND e.state = 'active' AND (l.held_until IS NULL OR l.held_until <= $1)",
    );
    let query = query.bind::<Timestamp, _>(now);
    let found: Oldest = on!(c, |c| query.get_result(c).await)?;
    Ok(found.due_at)
}

/// The endpoints of which at least `most` deliveries wait.
pub(crate) async fn full(c: &mut Connection, most: i64) -> Result<Vec<EndpointId>, DbError> {
    #[derive(QueryableByName)]
    struct Full {
        #[diesel(sql_type = Uuid)]
        endpoint_id: EndpointId,
    }
    let query = sql_query(
        "SELECT endpoint_id FROM webhook_delivery WHERE state = 'pending' GROUP BY endpoint_id HAVING count(*) >= $1",
    );
    let query = query.bind::<BigInt, _>(most);
    let found: Vec<Full> = on!(c, |c| query.load(c).await)?;
    Ok(found.into_iter().map(|it| it.endpoint_id).collect())
}
