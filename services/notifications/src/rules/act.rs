//! What is done with a delivery from outside: put back to be tried again, called off.

use dotmac_platform::{
    audit::{Audit as _, Audited, Entry},
    db::TenantTx,
};

use super::{digest, send::enqueue};
use crate::{
    audit::{CANCEL, RETRY},
    channel::{Channel, State},
    content::ContentError,
    error::{Missing, NotificationsError},
    service::{MailRoute, Service},
    store::{
        deliveries::{self, DeliveryId, DeliveryRow, Outcome},
        notifications,
    },
};

/// The delivery of that id.
///
/// # Errors
///
/// [`NotificationsError::NotFound`], also for one of another tenant.
pub(crate) async fn find(
    tx: &mut TenantTx,
    id: DeliveryId,
) -> Result<DeliveryRow, NotificationsError> {
    let found = deliveries::find(tx, id).await?;
    found.ok_or(NotificationsError::NotFound(Missing::Delivery))
}

/// Has a mail sent after all, or again: one that failed, bounced, is unknown, was suppressed or called off, or is held.
///
/// # Errors
///
/// [`NotificationsError::State`] for one that waits or was accepted; [`NotificationsError::ContentGone`].
pub(crate) async fn retry(
    tx: &mut TenantTx,
    service: &Service,
    id: DeliveryId,
) -> Result<Audited<DeliveryRow>, NotificationsError> {
    let delivery = find(tx, id).await?;
    let state = delivery.state;
    let wanted = match (delivery.channel, state) {
        (Channel::InApp, _) => "an item of an inbox is not sent again",
        (_, State::Queued) => "it is retried automatically",
        (_, State::Accepted | State::Delivered) => "it would be sent twice",
        _ => "",
    };
    if !wanted.is_empty() {
        return Err(NotificationsError::State { state, wanted });
    }
    let is_possible = match delivery.channel {
        Channel::Email => service.mail_route() == MailRoute::Relay,
        channel => service.has(channel),
    };
    if !is_possible {
        return Err(NotificationsError::NotConfigured(delivery.channel));
    }
    let notification = notifications::find(tx, delivery.notification_id).await?;
    let notification = notification.ok_or(NotificationsError::NotFound(Missing::Delivery))?;
    match service.content(&notification) {
        Err(ContentError::Gone) => return Err(NotificationsError::ContentGone),
        Err(ContentError::Sealed(error)) => return Err(error.into()),
        Err(ContentError::NoTemplate | ContentError::Render(_)) | Ok(_) => {}
    }
    if deliveries::requeue(tx, id, state).await? == 0 {
        let wanted = "it was changed meanwhile";
        return Err(NotificationsError::State { state, wanted });
    }
    let tenant = tx.tenant();
    enqueue(tx, tenant, &delivery).await?;
    let entry = Entry::new(RETRY.name(), "notifications.delivery", id.to_string());
    let recorded = tx.audit(entry.detail("state", state.as_str()))?;
    Ok(recorded.of(find(tx, id).await?))
}

/// Calls off a delivery that waits.
///
/// # Errors
///
/// [`NotificationsError::State`] for one that does not wait any more, or that a relay was given.
pub(crate) async fn cancel(
    tx: &mut TenantTx,
    id: DeliveryId,
) -> Result<Audited<DeliveryRow>, NotificationsError> {
    let delivery = find(tx, id).await?;
    let state = delivery.state;
    let outcome = Outcome::decided(State::Cancelled, "cancelled");
    let from = (vec![State::Queued, State::Held], None);
    if deliveries::settle(tx, id, from, delivery.attempts, outcome).await? == 0 {
        let wanted = match state {
            State::Queued => "it is being sent",
            _ => "only a waiting one can be cancelled",
        };
        return Err(NotificationsError::State { state, wanted });
    }
    digest::pass_on(tx, &delivery).await?;
    if deliveries::are_over(tx, delivery.notification_id).await? {
        notifications::forget(tx, delivery.notification_id).await?;
    }
    let entry = Entry::new(CANCEL.name(), "notifications.delivery", id.to_string());
    let recorded = tx.audit(entry)?;
    Ok(recorded.of(find(tx, id).await?))
}
