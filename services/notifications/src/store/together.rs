//! What is written of several deliveries of any tenants by one statement: see `rules::together`.

use std::collections::HashSet;

use diesel::{
    prelude::*,
    sql_query,
    sql_types::{Text, Timestamp},
};
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    DbError, Querying as _, TenantId, Tx, on, prepared, records,
    types::{Moment, sql::Uuid},
};
use serde_json::{Value, json};

use super::deliveries::DeliveryId;

#[derive(QueryableByName)]
struct ThatDelivery {
    #[diesel(sql_type = Uuid)]
    id: DeliveryId,
}

const OF_DELIVERY: &str =
    "notification_delivery.tenant_id = r.tenant_id AND notification_delivery.id = r.id";

/// Writes down that a next hop is about to be given what these deliveries say; those that wait and were not marked before.
pub(crate) async fn begin_sending(
    tx: &mut Tx,
    deliveries: &[(TenantId, DeliveryId)],
    now: Moment,
) -> Result<HashSet<DeliveryId>, DbError> {
    if deliveries.is_empty() {
        return Ok(HashSet::new());
    }
    let fields = [("tenant_id", "uuid"), ("id", "uuid")];
    let query = sql_query(format!(
        "UPDATE notification_delivery SET sending_since = $1, updated_at = $1 FROM {} WHERE {OF_DELIVERY} \
         AND notification_delivery.state = 'queued' AND notification_delivery.sending_since IS NULL \
         RETURNING notification_delivery.id AS id",
        records::relation(tx.connection(), "$2", &fields)
    ));
    let rows = deliveries.iter();
    let rows = rows.map(|(tenant_id, id)| json!({ "tenant_id": tenant_id, "id": id }));
    let rows = Value::Array(rows.collect()).to_string();
    let query = query.bind::<Timestamp, _>(now).bind::<Text, _>(rows);
    let marked: Vec<ThatDelivery> = on!(tx, |c| prepared(query).load(c).await)?;
    Ok(marked.into_iter().map(|it| it.id).collect())
}

/// A delivery that the next hop took.
pub(crate) struct AcceptedRow {
    pub(crate) tenant_id: TenantId,
    pub(crate) id: DeliveryId,
    /// Since when it is marked.
    pub(crate) since: Moment,
    /// The number of its attempts so far.
    pub(crate) attempts: i32,
    pub(crate) answer: Option<String>,
    /// What there is to know of the attempt, as JSON.
    pub(crate) record: String,
}

/// Writes down what the next hop took, with the attempts: those that are marked so still.
pub(crate) async fn accept(
    tx: &mut Tx,
    rows: &[AcceptedRow],
    now: Moment,
) -> Result<HashSet<DeliveryId>, DbError> {
    if rows.is_empty() {
        return Ok(HashSet::new());
    }
    let fields = [
        ("tenant_id", "uuid"),
        ("id", "uuid"),
        ("since", "timestamp"),
        ("attempts", "integer"),
        ("answer", "text"),
    ];
    let query = sql_query(format!(
        "UPDATE notification_delivery SET state = 'accepted', reason = NULL, answer = r.answer, next_attempt_at = NULL, \
         attempts = r.attempts, sending_since = NULL, updated_at = $1 FROM {} WHERE {OF_DELIVERY} \
         AND notification_delivery.state IN ('queued', 'unknown') AND notification_delivery.sending_since = r.since \
         RETURNING notification_delivery.id AS id",
        records::relation(tx.connection(), "$2", &fields)
    ));
    let written = rows.iter().map(|it| {
        json!({
            "tenant_id": it.tenant_id,
            "id": it.id,
            "since": records::moment(it.since),
            "attempts": it.attempts,
            "answer": it.answer,
        })
    });
    let written = Value::Array(written.collect()).to_string();
    let query = query.bind::<Timestamp, _>(now).bind::<Text, _>(written);
    let taken: Vec<ThatDelivery> = on!(tx, |c| prepared(query).load(c).await)?;
    let taken: HashSet<_> = taken.into_iter().map(|it| it.id).collect();
    let of_taken = rows.iter().filter(|it| taken.contains(&it.id));
    insert_attempts(tx, of_taken.collect()).await?;
    Ok(taken)
}

async fn insert_attempts(tx: &mut Tx, rows: Vec<&AcceptedRow>) -> Result<(), DbError> {
    let fields = [
        ("tenant_id", "uuid"),
        ("id", "uuid"),
        ("number", "integer"),
        ("record", "text"),
    ];
    let query = sql_query(format!(
        "INSERT INTO notification_attempt (tenant_id, delivery_id, number, record) \
         SELECT r.tenant_id, r.id, r.number, r.record FROM {} WHERE true \
         ON CONFLICT (tenant_id, delivery_id, number) DO NOTHING",
        records::relation(tx.connection(), "$1", &fields)
    ));
    let rows = rows.into_iter().map(|it| {
        json!({
            "tenant_id": it.tenant_id, "id": it.id, "number": it.attempts, "record": it.record,
        })
    });
    let rows = Value::Array(rows.collect()).to_string();
    let query = query.bind::<Text, _>(rows);
    on!(tx, |c| prepared(query).execute(c).await).map(drop)
}
