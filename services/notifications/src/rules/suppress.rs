//! Suppressions: recipients that get no more messages, and why.

use dotmac_platform::{
    audit::{Audit as _, Audited, Entry, Recorded},
    db::{
        TenantTx,
        types::{Id, Moment},
    },
    events::Emit as _,
    routing::IfMatch,
};

use super::judge::UNSUBSCRIBED;
use crate::{
    audit::{SUPPRESS, UNSUPPRESS},
    channel::ANY,
    error::{Missing, NotificationsError},
    events::RecipientSuppressed,
    store::{
        deliveries::DeliveryRow,
        suppressions::{self, SuppressionId, SuppressionRow, UNCHANGED},
    },
};

/// No message of any category is to go to this recipient, for what the next hop says.
pub(crate) async fn unreachable(
    tx: &mut TenantTx,
    delivery: &DeliveryRow,
    reason: &str,
    answer: Option<String>,
) -> Result<(), NotificationsError> {
    let row = row(tx, delivery, (ANY, reason), answer);
    add(tx, row).await.map(drop)
}

/// The recipient wants no more of this category. Doing it again changes nothing.
pub(crate) async fn unsubscribed(
    tx: &mut TenantTx,
    delivery: &DeliveryRow,
    category: &str,
) -> Result<Audited<()>, NotificationsError> {
    let row = row(tx, delivery, (category, UNSUBSCRIBED), None);
    Ok(add(tx, row).await?.of(()))
}

fn row(
    tx: &TenantTx,
    delivery: &DeliveryRow,
    (category, reason): (&str, &str),
    detail: Option<String>,
) -> SuppressionRow {
    SuppressionRow {
        tenant_id: tx.tenant(),
        id: Id::new(),
        channel: delivery.channel,
        recipient: delivery.recipient.clone(),
        recipient_key: delivery.recipient_key.clone(),
        category: category.to_owned(),
        reason: reason.to_owned(),
        detail,
        created_at: Moment::now(),
    }
}

async fn add(tx: &mut TenantTx, row: SuppressionRow) -> Result<Recorded, NotificationsError> {
    let (id, category, reason) = (row.id, row.category.clone(), row.reason.clone());
    let event = RecipientSuppressed {
        suppression_id: id,
        channel: row.channel,
        category: category.clone(),
        reason: reason.clone(),
    };
    let is_new = suppressions::insert(tx, row).await? > 0;
    if is_new {
        tx.emit(&event)?;
    }
    let entry = Entry::new(SUPPRESS.name(), "notifications.suppression", id.to_string())
        .detail("category", category)
        .detail("reason", reason);
    Ok(tx.audit(entry)?)
}

/// Lets the recipient be sent messages again, if the client has seen the suppression.
///
/// # Errors
///
/// [`NotificationsError::NotFound`], [`NotificationsError::Changed`].
pub(crate) async fn delete(
    tx: &mut TenantTx,
    id: SuppressionId,
    seen: &IfMatch,
) -> Result<Audited<()>, NotificationsError> {
    let missing = || NotificationsError::NotFound(Missing::Suppression);
    suppressions::find(tx, id).await?.ok_or_else(missing)?;
    seen.check(UNCHANGED)?;
    if suppressions::delete(tx, id).await? == 0 {
        return Err(missing());
    }
    let entry = Entry::new(
        UNSUPPRESS.name(),
        "notifications.suppression",
        id.to_string(),
    );
    Ok(tx.audit(entry)?.of(()))
}
