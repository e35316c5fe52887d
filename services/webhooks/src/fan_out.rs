//! From an event to its deliveries: a subscriber to all events, which writes a delivery for each endpoint that wants one.
//!
//! The rows and the subscriber's cursor are one transaction, so an event without its deliveries cannot exist, and a second look at
//! an event changes nothing.

use dotmac_platform::{
    db::{
        DbError, Tx,
        types::{Id, Moment},
    },
    delivery::wake,
    events::StoredEvent,
};

use crate::{
    SENDER,
    patterns::matches,
    payload::{self, MAX_PAYLOAD},
    service::Full,
    store::{
        deliveries::{self, NewDelivery},
        endpoints::{self, Listener},
        messages::{self, MessageRow},
        states::{DeliveryState, EndpointState},
    },
};

/// Writes the deliveries of an event.
pub(crate) async fn deliver(tx: &mut Tx, full: &Full, event: StoredEvent) -> Result<(), DbError> {
    let Some(tenant_id) = event.tenant else {
        return Ok(()); // the system's, which no tenant may see
    };
    let listeners = endpoints::listeners(tx, tenant_id).await?;
    let wants = |it: &&Listener| it.events.0.iter().any(|it| matches(it, &event.kind));
    let wanting: Vec<_> = listeners.iter().filter(wants).collect();
    if wanting.is_empty() {
        return Ok(());
    }
    let (message_id, now) = (Id::from_uuid(event.id.uuid()), Moment::now());
    let body = payload::of_event(&event);
    let is_too_large = body.len() > MAX_PAYLOAD;
    let failure = |it: &Listener| match it.state {
        _ if is_too_large => Some("payload_too_large: the body would have more than 65536 bytes"),
        EndpointState::Disabled => Some("endpoint_disabled: resume the endpoint, then recover"),
        _ if full.holds(it.id) => Some("too_many_waiting: too many deliveries are waiting"),
        _ => None,
    };
    let rows: Vec<_> = wanting
        .into_iter()
        .map(|it| {
            let failure = failure(it);
            NewDelivery {
                tenant_id,
                id: Id::new(),
                endpoint_id: it.id,
                message_id,
                kind: event.kind.clone(),
                state: match failure {
                    Some(_) => DeliveryState::Failed,
                    None => DeliveryState::Pending,
                },
                last_error: failure.map(str::to_owned),
            }
        })
        .collect();
    let message = MessageRow {
        tenant_id,
        id: message_id,
        kind: event.kind,
        payload: if is_too_large { String::new() } else { body },
        traceparent: event.traceparent,
        created_at: now,
    };
    messages::insert(tx, message).await?;
    deliveries::insert(tx, &rows, now).await?;
    tx.after_commit(|| wake(&[SENDER]));
    Ok(())
}
