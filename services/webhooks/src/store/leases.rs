//! Leases: how claimed deliveries stay with an instance, and what it writes of them.
//!
//! Each claim of a delivery raises its lease number, and every write that follows is guarded by it: an instance that comes
//! back late changes nothing.

use std::time::Duration;

use diesel::{
    prelude::*,
    sql_query,
    sql_types::{BigInt, Integer, Text, Timestamp},
};
use diesel_async::RunQueryDsl;
use dotmac_platform::{
    db::{
        Connection, DbError, Querying as _, TenantId, Tx, on, prepared, records,
        types::{Moment, sql::Uuid},
    },
    delivery::Attempt,
};
use serde::Serialize;

use super::{
    attempts::{self, AttemptRow},
    claims::Claimed,
    deliveries::DeliveryId,
    endpoints::EndpointId,
    states::DeliveryState,
};

/// Expired leases that one transaction takes back.
const MOST_EXPIRED: i64 = 500;

#[derive(Serialize)]
struct Leased {
    tenant_id: TenantId,
    id: DeliveryId,
    lease: i64,
}

fn leased(claimed: &[Claimed]) -> String {
    let leased: Vec<_> = claimed
        .iter()
        .map(|it| Leased {
            tenant_id: it.tenant_id,
            id: it.id,
            lease: it.lease,
        })
        .collect();
    serde_json::to_string(&leased).unwrap_or_default()
}

const LEASED: [(&str, &str); 3] = [("tenant_id", "uuid"), ("id", "uuid"), ("lease", "bigint")];
const OF_LEASE: &str = "webhook_delivery.tenant_id = r.tenant_id AND webhook_delivery.id = r.id \
                        AND webhook_delivery.lease = r.lease AND webhook_delivery.state = 'sending'";
/// The fields of [`Held`].
const HELD: &str = "webhook_delivery.id AS id, webhook_delivery.lease AS lease";

/// Lets the leases of these deliveries last until then, as far as they are still held.
pub(crate) async fn renew(
    tx: &mut Tx,
    claimed: &[Claimed],
    until: Moment,
) -> Result<usize, DbError> {
    let query = sql_query(format!(
        "UPDATE webhook_delivery SET leased_until = $1 FROM {} WHERE {OF_LEASE}",
        records::relation(tx.connection(), "$2", &LEASED)
    ));
    let query = query
        .bind::<Timestamp, _>(until)
        .bind::<Text, _>(leased(claimed));
    on!(tx, |c| prepared(query).execute(c).await)
}

/// Gives deliveries back whose attempts were cut off by a stop: they are due at once, and the attempt does not count on the ladder.
/// It is kept with that as its error.
pub(crate) async fn give_back(
    tx: &mut Tx,
    claimed: Vec<Claimed>,
    now: Moment,
) -> Result<(), DbError> {
    const ERROR: &str = "interrupted: the instance that sent it stopped before there was an answer";
    let query = sql_query(format!(
        "UPDATE webhook_delivery SET state = 'pending', due_at = $1, tries = webhook_delivery.tries - 1, worker = NULL, \
         leased_until = NULL FROM {} WHERE {OF_LEASE} RETURNING {HELD}",
        records::relation(tx.connection(), "$2", &LEASED)
    ));
    let query = query
        .bind::<Timestamp, _>(now)
        .bind::<Text, _>(leased(&claimed));
    let given: Vec<Held> = on!(tx, |c| prepared(query).load(c).await)?;
    let given = claimed.into_iter().filter(|it| {
        given
            .iter()
            .any(|held| (held.id, held.lease) == (it.id, it.lease))
    });
    let rows = given.map(|it| {
        let attempt = Attempt::failed(now, Duration::ZERO, ERROR);
        AttemptRow::new((it.tenant_id, it.id), it.endpoint_id, it.attempts, attempt)
    });
    attempts::insert(tx, rows.collect()).await
}

/// Gives deliveries back that were claimed and not sent: that was no attempt.
pub(crate) async fn return_unsent(tx: &mut Tx, claimed: &[Claimed]) -> Result<usize, DbError> {
    let query = sql_query(format!(
        "UPDATE webhook_delivery SET state = 'pending', attempts = webhook_delivery.attempts - 1, \
         tries = webhook_delivery.tries - 1, worker = NULL, leased_until = NULL FROM {} WHERE {OF_LEASE}",
        records::relation(tx.connection(), "$1", &LEASED)
    ));
    let query = query.bind::<Text, _>(leased(claimed));
    on!(tx, |c| prepared(query).execute(c).await)
}

/// What has become of a delivery.
#[derive(Clone, Debug)]
pub(crate) struct Settled {
    pub(crate) state: DeliveryState,
    /// When it is due again, if it waits.
    pub(crate) due_at: Moment,
    pub(crate) tries: i32,
    pub(crate) status: Option<i32>,
    pub(crate) error: Option<String>,
}

#[derive(Serialize)]
struct Written<'s> {
    tenant_id: TenantId,
    id: DeliveryId,
    lease: i64,
    state: DeliveryState,
    due_at: String,
    tries: i32,
    status: Option<i32>,
    error: Option<&'s str>,
}

/// A delivery whose lease is still held.
#[derive(QueryableByName)]
struct Held {
    #[diesel(sql_type = Uuid)]
    id: DeliveryId,
    #[diesel(sql_type = BigInt)]
    lease: i64,
}

/// Writes what has become of deliveries, as far as their leases are still held: the ids and leases of those. One delivery may be
/// among them with a former lease too.
pub(crate) async fn settle(
    tx: &mut Tx,
    settled: &[(Claimed, Settled)],
    now: Moment,
) -> Result<Vec<(DeliveryId, i64)>, DbError> {
    let rows: Vec<_> = settled
        .iter()
        .map(|(claimed, settled)| Written {
            tenant_id: claimed.tenant_id,
            id: claimed.id,
            lease: claimed.lease,
            state: settled.state,
            due_at: records::moment(settled.due_at),
            tries: settled.tries,
            status: settled.status,
            error: settled.error.as_deref(),
        })
        .collect();
    let fields = [
        ("tenant_id", "uuid"),
        ("id", "uuid"),
        ("lease", "bigint"),
        ("state", "text"),
        ("due_at", "timestamp"),
        ("tries", "integer"),
        ("status", "integer"),
        ("error", "text"),
    ];
    let query = sql_query(format!(
        "UPDATE webhook_delivery SET finished_at = CASE WHEN r.state = 'pending' THEN NULL ELSE $1 END, state = r.state, \
         due_at = r.due_at, tries = r.tries, last_status = r.status, last_error = r.error, worker = NULL, leased_until = NULL \
         FROM {} WHERE {OF_LEASE} RETURNING {HELD}",
        records::relation(tx.connection(), "$2", &fields)
    ));
    let rows = serde_json::to_string(&rows).unwrap_or_default();
    let query = query.bind::<Timestamp, _>(now).bind::<Text, _>(rows);
    let found: Vec<Held> = on!(tx, |c| prepared(query).load(c).await)?;
    Ok(found.into_iter().map(|it| (it.id, it.lease)).collect())
}

#[derive(QueryableByName)]
struct Expired {
    #[diesel(sql_type = Uuid)]
    tenant_id: TenantId,
    #[diesel(sql_type = Uuid)]
    id: DeliveryId,
    #[diesel(sql_type = Uuid)]
    endpoint_id: EndpointId,
    #[diesel(sql_type = Integer)]
    attempts: i32,
    #[diesel(sql_type = Timestamp)]
    started_at: Moment,
}

/// Takes back deliveries whose lease has expired; how many. Whether the receiver got them is unknown, so they are sent again, or
/// given up when they have been interrupted `most` times since they were last started. The attempt is kept with that as its error,
/// and does not count on the ladder.
pub(crate) async fn take_back(tx: &mut Tx, now: Moment, most: i32) -> Result<usize, DbError> {
    const ERROR: &str =
        "interrupted: the instance that was to send it ended before it wrote down an answer";
    let is_postgres = matches!(tx.connection(), Connection::Postgres(_));
    let lock = if is_postgres {
        "FOR UPDATE SKIP LOCKED"
    } else {
        ""
    };
    let query = sql_query(format!(
        "UPDATE webhook_delivery SET state = CASE WHEN interruptions + 1 >= $1 THEN 'failed' ELSE 'pending' END, \
         finished_at = CASE WHEN interruptions + 1 >= $1 THEN $2 END, due_at = $2, interruptions = interruptions + 1, \
         tries = CASE WHEN tries > 0 THEN tries - 1 ELSE 0 END, worker = NULL, leased_until = NULL, last_status = NULL, \
         last_error = $3, lease = lease + 1 WHERE (tenant_id, id) IN (SELECT tenant_id, id FROM webhook_delivery \
         WHERE state = 'sending' AND leased_until < $2 ORDER BY leased_until LIMIT $4 {lock}) \
         RETURNING tenant_id, id, endpoint_id, attempts, started_at"
    ));
    let query = query
        .bind::<Integer, _>(most)
        .bind::<Timestamp, _>(now)
        .bind::<Text, _>(ERROR)
        .bind::<BigInt, _>(MOST_EXPIRED);
    let expired: Vec<Expired> = on!(tx, |c| prepared(query).load(c).await)?;
    let count = expired.len();
    let rows = expired.into_iter().map(|it| {
        let attempt = Attempt::failed(it.started_at, Duration::ZERO, ERROR);
        AttemptRow::new((it.tenant_id, it.id), it.endpoint_id, it.attempts, attempt)
    });
    attempts::insert(tx, rows.collect()).await?;
    Ok(count)
}
