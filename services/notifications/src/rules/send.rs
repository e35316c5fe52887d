//! Accepting a notification: its content and recipients, and the rows and jobs that follow.

use std::collections::BTreeMap;

use dotmac_platform::{
    audit::{Audit as _, Audited, Entry},
    db::{
        TenantId, TenantTx, Tx,
        types::{Id, Moment},
    },
    events::Emit as _,
    jobs::{Enqueue as _, EnqueueOptions, Job, MAX_JOBS},
};
use uuid::Uuid;

use super::{
    attachments,
    digest::{self, Window},
    judge::judge,
    publish,
    recipients::{self, Planned},
    said::{Said, category, check_content, check_times, said},
};
use crate::{
    audit::SEND,
    bodies::{NewNotification, SentBody, SentDelivery},
    channel::{Channel, State, TRANSACTIONAL},
    error::NotificationsError,
    events::{self, NotificationCreated},
    jobs::{CallUrl, Deliver, Publish, SendPush, SendText},
    metrics,
    service::{MailRoute, Service},
    store::{
        self,
        deliveries::{self, DeliveryRow, user_id},
        notifications::{self, NotificationRow},
    },
};

/// What the caller may do beyond sending notifications.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CallerMay {
    /// Send messages of the category `transactional`.
    pub(crate) be_transactional: bool,
    /// Read the tenant's files.
    pub(crate) read_files: bool,
}

/// Accepts a notification.
///
/// # Errors
///
/// [`NotificationsError`]; nothing is stored then.
pub(crate) async fn send(
    tx: &mut TenantTx,
    service: &Service,
    may: CallerMay,
    new: NewNotification,
) -> Result<Audited<SentBody>, NotificationsError> {
    let category = category(new.category.as_deref(), may.be_transactional)?;
    let now = Moment::now();
    check_times(new.send_at, new.expires_at, now)?;
    let window = digest::window(&new, &category)?;
    let planned = recipients::plan(tx, service, &new.to, new.channels.as_deref()).await?;
    let said = said(tx, &new).await?;
    check_content(&said, &planned)?;
    let about = (planned.as_slice(), &said);
    let files = attachments::check(tx, service, may.read_files, &new, about).await?;
    let is_mail = planned.iter().any(|it| it.channel == Channel::Email);
    let is_optional = category != TRANSACTIONAL;
    if is_mail && is_optional && service.settings.public_url.is_none() {
        return Err(NotificationsError::NoUnsubscribe);
    }
    let row = NotificationRow {
        tenant_id: tx.tenant(),
        id: Id::new(),
        category: category.clone(),
        purpose: None,
        cause: None,
        template_id: said.template.as_ref().map(|it| it.template_id),
        template_version: said.template.as_ref().map(|it| it.number),
        priority: new.priority.unwrap_or_default().of_jobs(),
        content: Some(said.content.written()),
        sealed: None,
        is_secret: false,
        send_at: new.send_at.filter(|it| *it > now),
        expires_at: new.expires_at,
        created_at: now,
    };
    notifications::insert(tx, row.clone()).await?;
    store::attachments::insert(tx, row.id, &files).await?;
    let rows = place(tx, service, &row, &said, (planned, window)).await?;
    tx.emit(&NotificationCreated {
        notification_id: row.id,
        category: category.clone(),
        deliveries: rows.len(),
    })?;
    let mut channels: Vec<_> = rows.iter().map(|it| it.channel).collect();
    channels.sort_unstable();
    channels.dedup();
    let channels: Vec<_> = channels.into_iter().map(Channel::as_str).collect();
    let entry = Entry::new(
        SEND.name(),
        "notifications.notification",
        row.id.to_string(),
    )
    .detail("category", category)
    .detail("channels", channels.join(","))
    .detail("deliveries", rows.len().to_string())
    .detail("attachments", files.len().to_string());
    let entry = match &said.template {
        Some(version) => entry.detail("template", version.template_id.to_string()),
        None => entry,
    };
    let sent = SentBody {
        id: row.id,
        deliveries: rows.iter().map(SentDelivery::from).collect(),
    };
    Ok(tx.audit(entry)?.of(sent))
}

/// Stores the deliveries, and has them done: at once in inboxes, at their time by jobs.
async fn place(
    tx: &mut TenantTx,
    service: &Service,
    row: &NotificationRow,
    said: &Said,
    (planned, window): (Vec<Planned>, Option<Window>),
) -> Result<Vec<DeliveryRow>, NotificationsError> {
    let is_later = row.send_at.is_some();
    let mut rows: Vec<_> = planned
        .into_iter()
        .map(|it| delivery(service, row, it))
        .collect();
    for it in &mut rows {
        // What waits is judged when its time comes.
        let is_now = (!is_later && it.channel == Channel::InApp) || it.state == State::Held;
        if is_now && let Some(reason) = judge(tx, it, row).await?.refusal() {
            it.state = State::Suppressed;
            it.reason = Some(reason);
        } else if is_now && it.channel == Channel::InApp {
            it.state = State::Delivered;
        }
    }
    let jobs = rows.iter().filter(|it| it.state == State::Queued);
    let (items, jobs): (Vec<_>, Vec<_>) = jobs.partition(|it| it.channel == Channel::InApp);
    // All items that come later have one job.
    if jobs.len() + usize::from(!items.is_empty()) > MAX_JOBS {
        let problem = "is more than can wait for one notification";
        return Err(NotificationsError::field("to", "too_many", problem));
    }
    let members = match &window {
        Some(window) => digest::join(tx, window, &row.category, &mut rows).await?,
        None => BTreeMap::new(),
    };
    deliveries::insert(tx, rows.clone()).await?;
    digest::add(tx, &members).await?;
    let options = || {
        let options = EnqueueOptions::new().priority(row.priority);
        row.send_at.map_or(options.clone(), |at| options.run_at(at))
    };
    let (mut items, mut has_later_items) = (Vec::new(), false);
    for it in &rows {
        match (it.channel, it.state) {
            (Channel::InApp, State::Queued) => has_later_items = true,
            (Channel::InApp, State::Delivered) => items.push(it.clone()),
            (_, State::Queued) => match members.get(&it.id) {
                Some(first) if *first == it.id => digest::enqueue(tx, it).await?,
                // It is sent with another.
                Some(_) => {}
                None => enqueue_with(tx, it.tenant_id, it, options()).await?,
            },
            _ => {}
        }
        if it.state.is_final() {
            let (channel, state) = (it.channel, it.state);
            tx.after_commit(move || metrics::settled(channel, state));
        }
    }
    for it in rows
        .iter()
        .filter(|it| it.state == State::Suppressed)
        .take(90)
    {
        events::emit(tx, it, it.state, (None, it.reason.clone()))?;
    }
    publish::fill(tx, row, &said.content, said.template.as_ref(), items).await?;
    if has_later_items {
        let job = Publish {
            notification: row.id,
        };
        tx.enqueue_with(&job, options()).await?;
    }
    Ok(rows)
}

/// The delivery of a notification to a recipient, as it is at first.
pub(crate) fn delivery(service: &Service, row: &NotificationRow, to: Planned) -> DeliveryRow {
    let now = row.created_at;
    let state = match (to.channel, service.mail_route()) {
        (Channel::Email, MailRoute::Outbox) => State::Held,
        _ => State::Queued,
    };
    let is_optional = row.category != TRANSACTIONAL;
    // By which a recipient unsubscribes, and by which a report of its failure is known to be about it.
    let is_named = to.channel == Channel::Email && (is_optional || service.takes_bounces());
    let token = is_named.then(new_token);
    DeliveryRow {
        tenant_id: row.tenant_id,
        id: Id::new(),
        notification_id: row.id,
        channel: to.channel,
        recipient: to.recipient,
        recipient_key: to.key,
        name: to.name,
        user_id: to.user.map(user_id),
        state,
        reason: None,
        answer: None,
        attempts: 0,
        sending_since: None,
        next_attempt_at: Some(row.send_at.unwrap_or(now)),
        unsubscribe_token: token,
        updated_at: now,
    }
}

/// 122 random bits.
fn new_token() -> String {
    Uuid::new_v4().simple().to_string()
}

/// Enqueues the job that hands a delivery to its next hop.
pub(crate) async fn enqueue(
    tx: &mut Tx,
    tenant: TenantId,
    delivery: &DeliveryRow,
) -> Result<(), NotificationsError> {
    enqueue_with(tx, tenant, delivery, EnqueueOptions::new()).await
}

/// The same, with these options. What is in an inbox has no next hop.
async fn enqueue_with(
    tx: &mut Tx,
    tenant: TenantId,
    to: &DeliveryRow,
    options: EnqueueOptions,
) -> Result<(), NotificationsError> {
    let delivery = to.id;
    match to.channel {
        Channel::Email => add(tx, &Deliver::of(tenant, delivery), options).await,
        Channel::Sms => add(tx, &SendText { tenant, delivery }, options).await,
        Channel::WebPush => add(tx, &SendPush { tenant, delivery }, options).await,
        Channel::Webhook => add(tx, &CallUrl { tenant, delivery }, options).await,
        Channel::InApp => Ok(()),
    }
}

pub(super) async fn add<J: Job>(
    tx: &mut Tx,
    job: &J,
    options: EnqueueOptions,
) -> Result<(), NotificationsError> {
    tx.enqueue_with(job, options).await?;
    Ok(())
}
