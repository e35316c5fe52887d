//! Attempts: what came of each, as long as it is kept.

use std::collections::BTreeMap;

use diesel::{prelude::*, sql_query, sql_types::Text};
use diesel_async::RunQueryDsl;
use dotmac_platform::{
    db::{
        DbError, Querying as _, TenantId, TenantTx, Tx, on, prepared, records,
        types::{Json, Moment},
    },
    delivery::Attempt,
};
use serde::{Serialize, Serializer};

use super::{deliveries::DeliveryId, endpoints::EndpointId, schema::webhook_attempt as attempt};

#[derive(Clone, Debug, Queryable, Selectable, Serialize)]
#[diesel(table_name = attempt)]
pub(crate) struct AttemptRow {
    tenant_id: TenantId,
    delivery_id: DeliveryId,
    pub(crate) number: i32,
    endpoint_id: EndpointId,
    #[serde(serialize_with = "as_text")]
    at: Moment,
    duration_ms: i64,
    status: Option<i32>,
    address: Option<String>,
    response_headers: Json<BTreeMap<String, String>>,
    response_body: Option<String>,
    error: Option<String>,
}

impl AttemptRow {
    pub(crate) fn new(
        (tenant_id, delivery_id): (TenantId, DeliveryId),
        endpoint_id: EndpointId,
        number: i32,
        attempt: Attempt,
    ) -> Self {
        Self {
            tenant_id,
            delivery_id,
            number,
            endpoint_id,
            at: attempt.at,
            duration_ms: attempt.duration_ms,
            status: attempt.status,
            address: attempt.address,
            response_headers: Json(attempt.response_headers),
            response_body: attempt.response_body,
            error: attempt.error,
        }
    }

    pub(crate) fn attempt(self) -> Attempt {
        Attempt {
            at: self.at,
            duration_ms: self.duration_ms,
            status: self.status,
            address: self.address,
            response_headers: self.response_headers.0,
            response_body: self.response_body,
            error: self.error,
        }
    }
}

/// As both back ends read it.
fn as_text<S: Serializer>(at: &Moment, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&records::moment(*at))
}

/// Inserts attempts, by one statement whose text does not depend on their number.
pub(crate) async fn insert(tx: &mut Tx, rows: Vec<AttemptRow>) -> Result<(), DbError> {
    if rows.is_empty() {
        return Ok(());
    }
    let fields = [
        ("tenant_id", "uuid"),
        ("delivery_id", "uuid"),
        ("number", "integer"),
        ("endpoint_id", "uuid"),
        ("at", "timestamp"),
        ("duration_ms", "bigint"),
        ("status", "integer"),
        ("address", "text"),
        ("response_headers", "json"),
        ("response_body", "text"),
        ("error", "text"),
    ];
    let names: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
    let query = sql_query(format!(
        "INSERT INTO webhook_attempt ({}) SELECT r.{} FROM {}",
        names.join(", "),
        names.join(", r."),
        records::relation(tx.connection(), "$1", &fields)
    ));
    let query = query.bind::<Text, _>(serde_json::to_string(&rows).unwrap_or_default());
    on!(tx, |c| prepared(query).execute(c).await).map(drop)
}

/// At most `most` attempts of a delivery, the newest first.
pub(crate) async fn of(
    tx: &mut TenantTx,
    delivery: DeliveryId,
    most: i64,
) -> Result<Vec<AttemptRow>, DbError> {
    let of_delivery = attempt::tenant_id
        .eq(tx.tenant())
        .and(attempt::delivery_id.eq(delivery));
    let query = attempt::table
        .filter(of_delivery)
        .order(attempt::number.desc())
        .limit(most);
    on!(tx, |c| {
        let query = query.select(AttemptRow::as_select());
        query.load(c).await
    })
}

/// Time and status of the last `most` attempts of an endpoint since then.
pub(crate) async fn figures(
    tx: &mut TenantTx,
    endpoint: EndpointId,
    since: Moment,
    most: i64,
) -> Result<Vec<(i64, Option<i32>)>, DbError> {
    let recent = attempt::tenant_id
        .eq(tx.tenant())
        .and(attempt::endpoint_id.eq(endpoint))
        .and(attempt::at.ge(since));
    let query = attempt::table
        .filter(recent)
        .order(attempt::at.desc())
        .limit(most)
        .select((attempt::duration_ms, attempt::status));
    on!(tx, |c| query.load(c).await)
}
