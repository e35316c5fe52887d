//! Deliveries: tests, replays, recoveries.

use dotmac_platform::{
    audit::Audited,
    db::{
        TenantTx,
        types::{Id, Moment},
    },
    delivery::wake,
};
use serde_json::json;

use super::endpoints;
use crate::{
    SENDER, WebhooksError,
    audit::{self, RECOVER, REPLAY, TEST},
    bodies::Recovered,
    payload,
    store::{
        attempts::{self, AttemptRow},
        deliveries::{self, DeliveryId, DeliveryRow, NewDelivery},
        endpoints::EndpointId,
        lanes,
        messages::{self, MessageRow},
        states::{DeliveryState, EndpointState},
    },
};

/// The type of what `test` sends.
const TEST_KIND: &str = "webhook.test.v1";

/// Deliveries that one call starts again.
const MOST_RECOVERED: i64 = 10_000;

/// Attempts of a delivery that are shown.
const MOST_ATTEMPTS: i64 = 100;

/// The delivery of that id.
///
/// # Errors
///
/// [`WebhooksError::NoDelivery`], also for one of another tenant.
pub(crate) async fn find(tx: &mut TenantTx, id: DeliveryId) -> Result<DeliveryRow, WebhooksError> {
    deliveries::find(tx, id)
        .await?
        .ok_or(WebhooksError::NoDelivery)
}

/// The delivery of that id, with what is sent and its attempts.
///
/// # Errors
///
/// As [`find`].
pub(crate) async fn detail(
    tx: &mut TenantTx,
    id: DeliveryId,
) -> Result<(DeliveryRow, String, Vec<AttemptRow>), WebhooksError> {
    let row = find(tx, id).await?;
    let payload = messages::payload(tx, row.message_id).await?;
    let attempts = attempts::of(tx, id, MOST_ATTEMPTS).await?;
    Ok((row, payload.unwrap_or_default(), attempts))
}

/// Sends a test to an endpoint: a delivery as any other, of an event that is in no log.
///
/// # Errors
///
/// [`WebhooksError::NotFound`]; [`WebhooksError::State`] unless it is active.
pub(crate) async fn test(
    tx: &mut TenantTx,
    endpoint: EndpointId,
) -> Result<Audited<DeliveryRow>, WebhooksError> {
    active(tx, endpoint).await?;
    let (tenant_id, id, message_id, now) = (tx.tenant(), Id::new(), Id::new(), Moment::now());
    let data = json!({ "endpoint": endpoint, "message": "This is a test." });
    let message = MessageRow {
        tenant_id,
        id: message_id,
        kind: TEST_KIND.to_owned(),
        payload: payload::of(TEST_KIND, now, &data),
        traceparent: None,
        created_at: now,
    };
    messages::insert(tx, message).await?;
    let delivery = NewDelivery {
        tenant_id,
        id,
        endpoint_id: endpoint,
        message_id,
        kind: TEST_KIND.to_owned(),
        state: DeliveryState::Pending,
        last_error: None,
    };
    deliveries::insert(tx, &[delivery], now).await?;
    let row = find(tx, id).await?;
    tx.after_commit(|| wake(&[SENDER]));
    Ok(audit::record(tx, TEST, endpoint)?.of(row))
}

/// Starts a delivery again, in any state but `sending`. The receiver knows by `webhook-id` that it is the same.
///
/// # Errors
///
/// [`WebhooksError::NoDelivery`]; [`WebhooksError::Sending`] while an attempt is under way; [`WebhooksError::State`] if its endpoint
/// is disabled.
pub(crate) async fn replay(
    tx: &mut TenantTx,
    id: DeliveryId,
) -> Result<Audited<DeliveryRow>, WebhooksError> {
    let row = find(tx, id).await?;
    enabled(tx, row.endpoint_id).await?;
    if deliveries::replay(tx, id, Moment::now()).await? == 0 {
        return Err(WebhooksError::Sending);
    }
    let row = find(tx, id).await?;
    tx.after_commit(|| wake(&[SENDER]));
    Ok(audit::record_delivery(tx, REPLAY, id)?.of(row))
}

/// Starts all deliveries of an endpoint again that were made since then, and failed or wait for another attempt. The endpoint
/// is no longer held.
///
/// # Errors
///
/// [`WebhooksError::NotFound`]; [`WebhooksError::State`] if it is disabled.
pub(crate) async fn recover(
    tx: &mut TenantTx,
    endpoint: EndpointId,
    since: Moment,
) -> Result<Audited<Recovered>, WebhooksError> {
    enabled(tx, endpoint).await?;
    lanes::reset(tx, endpoint).await?;
    let now = Moment::now();
    let recovered = deliveries::recover(tx, endpoint, since, now, MOST_RECOVERED).await?;
    tx.after_commit(|| wake(&[SENDER]));
    let recovered = u64::try_from(recovered).unwrap_or_default();
    let body = Recovered {
        recovered,
        more: recovered >= MOST_RECOVERED.unsigned_abs(),
    };
    Ok(audit::record(tx, RECOVER, endpoint)?.of(body))
}

async fn active(tx: &mut TenantTx, endpoint: EndpointId) -> Result<(), WebhooksError> {
    let row = endpoints::find(tx, endpoint).await?;
    match row.state {
        EndpointState::Active => Ok(()),
        state => Err(WebhooksError::state(state, "resume it first")),
    }
}

async fn enabled(tx: &mut TenantTx, endpoint: EndpointId) -> Result<(), WebhooksError> {
    let row = endpoints::find(tx, endpoint).await?;
    match row.state {
        EndpointState::Disabled => Err(WebhooksError::state(row.state, "resume it first")),
        _ => Ok(()),
    }
}
