//! Accepting a notification: what it says, to whom, and the rows and jobs that follow.

use dotmac_platform::{
    audit::{Audit as _, Audited, Entry},
    db::{
        TenantId, TenantTx, Tx,
        types::{Id, Moment},
    },
    events::Emit as _,
    jobs::{Enqueue as _, EnqueueOptions, MAX_JOBS},
};
use serde_json::Map;
use uuid::Uuid;

use super::{
    judge::judge,
    publish,
    recipients::{self, Planned},
    templates,
};
use crate::{
    audit::SEND,
    bodies::{NewContent, NewNotification, SentBody, SentDelivery, TemplateRef},
    channel::{Channel, GENERAL, State, TRANSACTIONAL, is_category},
    content::{Content, RECIPIENT, Recipient},
    error::NotificationsError,
    events::{self, NotificationCreated},
    jobs::{Deliver, Publish},
    metrics,
    service::{MailRoute, Service},
    store::{
        deliveries::{self, DeliveryRow, user_id},
        notifications::{self, NotificationRow},
        templates::VersionRow,
    },
};

/// The largest `data`, in bytes of JSON.
const MOST_DATA: usize = 16 * 1024;
/// The largest text and HTML together, in bytes: encoded it stays below 10 MiB.
const MOST_WRITTEN: usize = 4 * 1024 * 1024;

/// What is sent, once it is known to be right.
struct Said {
    content: Content,
    template: Option<VersionRow>,
}

/// Accepts a notification. `may_be_transactional` says whether the caller has the permission for that category.
///
/// # Errors
///
/// [`NotificationsError`]; nothing is stored then.
pub(crate) async fn send(
    tx: &mut TenantTx,
    service: &Service,
    may_be_transactional: bool,
    new: NewNotification,
) -> Result<Audited<SentBody>, NotificationsError> {
    let category = category(new.category.as_deref(), may_be_transactional)?;
    let now = Moment::now();
    check_times(new.send_at, new.expires_at, now)?;
    let planned = recipients::plan(tx, service, &new.to, new.channels.as_deref()).await?;
    let said = said(tx, &new).await?;
    check_content(&said, &planned)?;
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
    let rows = place(tx, service, &row, &said, planned).await?;
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
    .detail("deliveries", rows.len().to_string());
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
    planned: Vec<Planned>,
) -> Result<Vec<DeliveryRow>, NotificationsError> {
    let is_later = row.send_at.is_some();
    let mut rows: Vec<_> = planned
        .into_iter()
        .map(|it| delivery(service, row, it))
        .collect();
    for it in &mut rows {
        // What waits is judged when its time comes.
        let is_now = (!is_later && it.channel == Channel::InApp) || it.state == State::Held;
        if is_now && let Some(reason) = judge(tx, it, &row.category).await? {
            it.state = State::Suppressed;
            it.reason = Some(reason);
        } else if is_now && it.channel == Channel::InApp {
            it.state = State::Delivered;
        }
    }
    let jobs = rows.iter().filter(|it| it.state == State::Queued);
    let mails = jobs.filter(|it| it.channel == Channel::Email).count();
    if mails > MAX_JOBS || (is_later && mails == MAX_JOBS) {
        let problem = "is more than can wait for one notification";
        return Err(NotificationsError::field("to", "too_many", problem));
    }
    deliveries::insert(tx, rows.clone()).await?;
    let options = || {
        let options = EnqueueOptions::new().priority(row.priority);
        row.send_at.map_or(options.clone(), |at| options.run_at(at))
    };
    let (mut items, mut has_later_items) = (Vec::new(), false);
    for it in &rows {
        match (it.channel, it.state) {
            (Channel::Email, State::Queued) => {
                let job = Deliver {
                    tenant: it.tenant_id,
                    delivery: it.id,
                };
                tx.enqueue_with(&job, options()).await?;
            }
            (Channel::InApp, State::Queued) => has_later_items = true,
            (Channel::InApp, State::Delivered) => items.push(it.clone()),
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
    let token = (to.channel == Channel::Email && is_optional).then(new_token);
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

/// Enqueues the job that hands a mail to the relay.
pub(crate) async fn enqueue_mail(
    tx: &mut Tx,
    tenant: TenantId,
    delivery: &DeliveryRow,
) -> Result<(), NotificationsError> {
    let job = Deliver {
        tenant,
        delivery: delivery.id,
    };
    tx.enqueue(&job).await?;
    Ok(())
}

fn category(given: Option<&str>, may_be_transactional: bool) -> Result<String, NotificationsError> {
    let category = given.unwrap_or(GENERAL);
    if !is_category(category) {
        let problem =
            "has not 1 to 64 lower-case letters, digits, `_`, `-` and `.`, a letter first";
        return Err(NotificationsError::field("category", "invalid", problem));
    }
    if category == TRANSACTIONAL && !may_be_transactional {
        return Err(NotificationsError::NotTransactional);
    }
    Ok(category.to_owned())
}

fn check_times(
    send_at: Option<Moment>,
    expires_at: Option<Moment>,
    now: Moment,
) -> Result<(), NotificationsError> {
    let begin = send_at.map_or(now, |at| at.max(now));
    if send_at.is_some_and(|at| at > Moment::LAST) {
        return Err(NotificationsError::field(
            "send_at",
            "invalid",
            "is after the year 9999",
        ));
    }
    if expires_at.is_some_and(|at| at <= begin || at > Moment::LAST) {
        let problem = "is not after the time at which it is sent";
        return Err(NotificationsError::field("expires_at", "invalid", problem));
    }
    Ok(())
}

/// What the request says, and the template that it names.
async fn said(tx: &mut TenantTx, new: &NewNotification) -> Result<Said, NotificationsError> {
    let data = new.data.clone().unwrap_or_default();
    if data.contains_key(RECIPIENT) {
        let problem = "is what a template knows its recipient by";
        return Err(NotificationsError::field(
            "data.recipient",
            "reserved",
            problem,
        ));
    }
    let too_large = |it: &Map<_, _>| serde_json::to_string(it).map_or(0, |it| it.len()) > MOST_DATA;
    if too_large(&data) {
        let problem = format!("has more than {MOST_DATA} bytes of JSON");
        return Err(NotificationsError::field("data", "too_large", problem));
    }
    match (&new.template, &new.content) {
        (Some(template), None) => {
            let (key, version) = match template {
                TemplateRef::Key(key) => (key, None),
                TemplateRef::Version(it) => (&it.key, it.version),
            };
            let version = templates::named(tx, key, version).await?;
            let unknown = || {
                NotificationsError::field(
                    "template",
                    "unknown_template",
                    "is no template of the tenant",
                )
            };
            Ok(Said {
                template: Some(version.ok_or_else(unknown)?),
                content: Content {
                    data,
                    ..Content::default()
                },
            })
        }
        (None, Some(content)) => {
            if !data.is_empty() {
                let problem = "is for templates; that of an item in an inbox is `content.data`";
                return Err(NotificationsError::field("data", "unexpected", problem));
            }
            let content = written(content.clone());
            if too_large(&content.data) {
                let problem = format!("has more than {MOST_DATA} bytes of JSON");
                return Err(NotificationsError::field(
                    "content.data",
                    "too_large",
                    problem,
                ));
            }
            let size = [&content.text, &content.html].into_iter().flatten();
            if size.map(String::len).sum::<usize>() > MOST_WRITTEN {
                let problem = format!("has more than {MOST_WRITTEN} bytes of text and HTML");
                return Err(NotificationsError::field("content", "too_large", problem));
            }
            Ok(Said {
                content,
                template: None,
            })
        }
        _ => {
            let problem = "is given together with `content`, or neither is";
            Err(NotificationsError::field("template", "invalid", problem))
        }
    }
}

fn written(it: NewContent) -> Content {
    Content {
        subject: it.subject,
        text: it.text,
        html: it.html,
        title: it.title,
        body: it.body,
        data: it.data.unwrap_or_default(),
    }
}

/// Whether there is something to say by each channel. A template is rendered for the first recipient, so that one which
/// fails is refused at once.
fn check_content(said: &Said, planned: &[Planned]) -> Result<(), NotificationsError> {
    let Some(first) = planned.first() else {
        return Err(NotificationsError::field("to", "nobody", "reaches nobody"));
    };
    let (content, place) = match &said.template {
        None => (said.content.clone(), "content"),
        Some(version) => {
            let recipient = Recipient {
                address: &first.recipient,
                name: first.name.as_deref(),
                unsubscribe_url: Some(""),
            };
            let rendered = said
                .content
                .rendered(&templates::sources(version), &recipient);
            let rendered = rendered.map_err(|fault| {
                let problem = format!("{} {}", fault.part, fault.problem);
                NotificationsError::field("template", "render", problem)
            });
            (rendered?, "template")
        }
    };
    let mail = content.mail();
    for (channel, field, is_there) in [
        (Channel::Email, "subject", !mail.subject.trim().is_empty()),
        (Channel::Email, "text", !mail.text.trim().is_empty()),
        (
            Channel::InApp,
            "title",
            !content.item().title.trim().is_empty(),
        ),
        (
            Channel::InApp,
            "body",
            !content.item().body.trim().is_empty(),
        ),
    ] {
        if !is_there && planned.iter().any(|it| it.channel == channel) {
            let problem = format!("is needed for the channel `{channel}`");
            return Err(NotificationsError::field(
                format!("{place}.{field}"),
                "missing_field",
                problem,
            ));
        }
    }
    Ok(())
}
