//! Inboxes: items at once, and at their time.

use dotmac_platform::{
    db::{DbError, TenantTx, types::Moment},
    jobs::{JobError, Run},
};

use super::{judge::judge, templates};
use crate::{
    channel::{Channel, State},
    content::{Content, Recipient},
    error::NotificationsError,
    events,
    jobs::Publish,
    metrics,
    service::Service,
    store::{
        deliveries::{self, DeliveryRow, Outcome},
        inbox::{self, ItemRow},
        notifications::{self, NotificationRow},
        templates::VersionRow,
    },
};

/// The longest text of an item, in bytes.
const MOST_BODY: usize = 16 * 1024;

/// Puts `items` of a notification into the inboxes of their users.
pub(crate) async fn fill(
    tx: &mut TenantTx,
    row: &NotificationRow,
    content: &Content,
    template: Option<&VersionRow>,
    items: Vec<DeliveryRow>,
) -> Result<(), NotificationsError> {
    let mut rows = Vec::with_capacity(items.len());
    for delivery in items {
        let Some(user_id) = delivery.user_id else {
            continue;
        };
        let said = of_recipient(content, template, &delivery)?;
        let item = said.item();
        let data = match &template {
            None => content.data.clone(),
            Some(_) => serde_json::Map::new(),
        };
        let data = (!data.is_empty()).then(|| serde_json::Value::Object(data).to_string());
        let mut body = item.body;
        body.truncate(body.floor_char_boundary(MOST_BODY));
        rows.push(ItemRow {
            tenant_id: delivery.tenant_id,
            id: delivery.id,
            user_id,
            category: row.category.clone(),
            title: item.title,
            body,
            data,
            created_at: Moment::now(),
            expires_at: row.expires_at,
            read_at: None,
            archived_at: None,
        });
    }
    if rows.is_empty() {
        return Ok(());
    }
    Ok(inbox::insert(tx, rows).await?)
}

fn of_recipient(
    content: &Content,
    template: Option<&VersionRow>,
    delivery: &DeliveryRow,
) -> Result<Content, NotificationsError> {
    let Some(version) = template else {
        return Ok(content.clone());
    };
    let recipient = Recipient {
        address: &delivery.recipient,
        name: delivery.name.as_deref(),
        unsubscribe_url: None,
    };
    let rendered = content.rendered(&templates::sources(version), &recipient);
    rendered.map_err(|fault| {
        let problem = format!("{} {}", fault.part, fault.problem);
        NotificationsError::field("template", "render", problem)
    })
}

/// Puts what has waited for its time into inboxes, judged now. A job of the tenant, done in the transaction in which it is
/// completed.
pub(crate) async fn publish(
    tx: &mut TenantTx,
    service: &Service,
    run: &Run<Publish>,
) -> Result<(), JobError> {
    let Some(row) = notifications::find(tx, run.notification).await? else {
        return Ok(());
    };
    let content = service.content(&row)?;
    let template = templates::version_of(tx, &row).await?;
    let waiting = deliveries::of_notification(tx, row.id).await?;
    let waiting = waiting
        .into_iter()
        .filter(|it| it.channel == Channel::InApp && it.state == State::Queued);
    let is_over = row.expires_at.is_some_and(|it| it <= Moment::now());
    let mut items = Vec::new();
    for (place, delivery) in waiting.enumerate() {
        let outcome = if is_over {
            Outcome::decided(State::Cancelled, "expired")
        } else if let Some(reason) = judge(tx, &delivery, &row).await?.refusal() {
            Outcome::decided(State::Suppressed, reason)
        } else {
            Outcome {
                reason: None,
                ..Outcome::decided(State::Delivered, "")
            }
        };
        if settled(tx, &delivery, outcome.clone(), place).await?
            && outcome.state == State::Delivered
        {
            items.push(delivery);
        }
    }
    fill(tx, &row, &content, template.as_ref(), items).await?;
    Ok(())
}

/// Writes the outcome down; whether the delivery still waited.
async fn settled(
    tx: &mut TenantTx,
    delivery: &DeliveryRow,
    outcome: Outcome,
    place: usize,
) -> Result<bool, DbError> {
    let (state, reason) = (outcome.state, outcome.reason.clone());
    let from = (vec![State::Queued], None);
    if deliveries::settle(tx, delivery.id, from, delivery.attempts, outcome).await? == 0 {
        return Ok(false);
    }
    // A transaction has 100 events at the most.
    if state == State::Suppressed && place < 90 {
        events::emit(tx, delivery, state, (None, reason))?;
    }
    let channel = delivery.channel;
    tx.after_commit(move || metrics::settled(channel, state));
    Ok(true)
}
