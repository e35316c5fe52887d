//! What became of an attempt: the delivery's state, the record of the attempt, and what follows from both, in one
//! transaction.

use dotmac_platform::{
    audit::{Audit as _, Entry},
    db::{TenantDb, TenantTx, types::Moment},
    delivery::Attempt,
};

use super::{
    judge::BOUNCED,
    lane::{self, Called},
    suppress,
};
use crate::{
    audit::MAIL,
    channel::State,
    error::NotificationsError,
    events, metrics,
    store::{
        deliveries::{self, DeliveryRow, Outcome},
        notifications::{self, NotificationRow},
        push::{self, SubscriptionId},
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
    /// Nothing else will reach the recipient either.
    pub(crate) is_lasting: bool,
    /// A browser that takes no messages any more.
    pub(crate) gone: Option<SubscriptionId>,
    /// What it means for the lane of its receiver, if that has one.
    pub(crate) called: Option<Called>,
    /// What is sent with it, and has the same outcome.
    pub(crate) members: Vec<DeliveryRow>,
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
        gone,
        called,
        members,
    } = settled;
    // Whatever became of the delivery meanwhile.
    if let Some(called) = called {
        lane::leave(tx, &delivery, called).await?;
    }
    let number = delivery.attempts + i32::from(attempt.is_some());
    // A job that found the mark of an attempt without its end has called it unknown; the attempt itself knows better.
    let from = match sending_since {
        Some(_) => vec![State::Queued, State::Unknown],
        None => vec![State::Queued],
    };
    let (state, status, reason) = (outcome.state, outcome.status, outcome.reason.clone());
    let detail = outcome.answer.clone();
    let mark = (from, sending_since);
    let record = attempt.map(|it| serde_json::to_string(&it).unwrap_or_default());
    let same = (mark.clone(), record.clone(), outcome.clone());
    if deliveries::settle(tx, delivery.id, mark, number, outcome).await? == 0 {
        return Ok(false);
    }
    if let Some(record) = record {
        deliveries::insert_attempt(tx, delivery.id, number, record).await?;
    }
    events::emit(tx, &delivery, state, (status, reason))?;
    for member in members {
        settle_member(tx, &member, same.clone()).await?;
    }
    if is_lasting {
        suppress::unreachable(tx, &delivery, BOUNCED, detail).await?;
    }
    if let Some(gone) = gone {
        push::delete(tx, gone, None).await?;
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

/// The same outcome for a delivery that is sent with another; none for one that was called off meanwhile.
async fn settle_member(
    tx: &mut TenantTx,
    member: &DeliveryRow,
    (mark, record, outcome): ((Vec<State>, Option<Moment>), Option<String>, Outcome),
) -> Result<(), NotificationsError> {
    let number = member.attempts + i32::from(record.is_some());
    let (state, known) = (outcome.state, (outcome.status, outcome.reason.clone()));
    if deliveries::settle(tx, member.id, mark, number, outcome).await? == 0 {
        return Ok(());
    }
    if let Some(record) = record {
        deliveries::insert_attempt(tx, member.id, number, record).await?;
    }
    events::emit(tx, member, state, known)?;
    if state.is_final() {
        let channel = member.channel;
        tx.after_commit(move || metrics::settled(channel, state));
    }
    Ok(())
}
