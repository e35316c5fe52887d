//! What became of an attempt: the delivery's state, the record of the attempt, and what follows from both, in one
//! transaction.

use dotmac_platform::{
    audit::{Audit as _, Entry},
    db::{TenantDb, TenantTx, types::Moment},
    delivery::Attempt,
};

use super::suppress;
use crate::{
    audit::MAIL,
    channel::State,
    error::NotificationsError,
    events, metrics,
    store::{
        deliveries::{self, DeliveryRow, Outcome},
        notifications::{self, NotificationRow},
    },
};

/// A delivery whose attempt is over.
#[derive(Clone)]
pub(crate) struct Settled {
    pub(crate) delivery: DeliveryRow,
    pub(crate) notification: NotificationRow,
    /// When the relay was given the content, if it was.
    pub(crate) sending_since: Option<Moment>,
    pub(crate) outcome: Outcome,
    /// `None` for a decision without an attempt.
    pub(crate) attempt: Option<Attempt>,
    /// No mail will reach the recipient either.
    pub(crate) is_lasting: bool,
}

/// Writes it down. Whether the delivery was still this attempt's.
pub(crate) async fn settle(db: &TenantDb, settled: Settled) -> Result<bool, NotificationsError> {
    let written = db.transaction("settle delivery", async move |tx| write(tx, settled).await);
    written.await
}

async fn write(tx: &mut TenantTx, settled: Settled) -> Result<bool, NotificationsError> {
    let Settled {
        delivery,
        notification,
        sending_since,
        outcome,
        attempt,
        is_lasting,
    } = settled;
    let number = delivery.attempts + i32::from(attempt.is_some());
    // Somebody who found the mark of an attempt without its end has called it unknown; whoever knows better says so.
    let from = match sending_since {
        Some(_) => vec![State::Queued, State::Unknown],
        None => vec![State::Queued],
    };
    let (state, status, reason) = (outcome.state, outcome.status, outcome.reason.clone());
    let detail = outcome.answer.clone();
    let mark = (from, sending_since);
    if deliveries::settle(tx, delivery.id, mark, number, outcome).await? == 0 {
        return Ok(false);
    }
    if let Some(attempt) = attempt {
        let record = serde_json::to_string(&attempt).unwrap_or_default();
        deliveries::insert_attempt(tx, delivery.id, number, record).await?;
    }
    events::emit(tx, &delivery, state, (status, reason))?;
    if is_lasting {
        suppress::bounced(tx, &delivery, detail).await?;
    }
    if let (State::Accepted, Some(purpose)) = (state, &notification.purpose) {
        let id = delivery.id.to_string();
        let entry = Entry::new(MAIL.name(), "notifications.delivery", id);
        drop(tx.audit(entry.detail("purpose", purpose.clone()))?);
    }
    if notification.is_secret
        && state.is_final()
        && deliveries::are_over(tx, notification.id).await?
    {
        notifications::forget(tx, notification.id).await?;
    }
    if state.is_final() {
        let channel = delivery.channel;
        tx.after_commit(move || metrics::settled(channel, state));
    }
    Ok(true)
}
