//! Held mail, as developers read it.

use dotmac_platform::{
    audit::{Audit as _, Audited, Entry},
    db::{TenantTx, types::Moment},
    routing::{Html, Rows, Window, escaped},
    rows,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::templates;
use crate::{
    audit::OUTBOX,
    channel::{Channel, State},
    content::Recipient,
    error::NotificationsError,
    readable::{is_link, linked},
    service::Service,
    smtp::MailText,
    store::{
        deliveries::{self, DeliveryId, DeliveryRow, Filter},
        notifications::{self, NotificationId, NotificationRow},
    },
};

/// The most links of a mail that are listed.
const MOST_LINKS: usize = 50;

/// A mail that is held, not sent.
#[derive(Serialize, ToSchema)]
pub(crate) struct HeldMail {
    /// Its delivery.
    pub(crate) id: DeliveryId,
    /// Its notification.
    notification_id: NotificationId,
    /// What it is about.
    category: String,
    /// What a mail of a service is for: `accounts.password_reset`.
    purpose: Option<String>,
    /// Where it would go.
    to: String,
    /// Its subject.
    subject: String,
    /// Its text.
    text: String,
    /// The same as HTML.
    html: String,
    /// The links in its text.
    links: Vec<String>,
    /// Where a `POST` unsubscribes the recipient.
    unsubscribe_url: Option<String>,
    /// Why it cannot be shown.
    problem: Option<String>,
    created_at: Moment,
}

/// At most `limit` mails that are held, the newest first.
pub(crate) async fn list(
    tx: &mut TenantTx,
    service: &Service,
    window: Window<DeliveryId>,
) -> Result<Audited<Rows<HeldMail>>, NotificationsError> {
    if !service.settings.outbox {
        return Err(NotificationsError::OutboxDisabled);
    }
    let filter = Filter {
        state: Some(State::Held),
        channel: Some(Channel::Email),
        notification: None,
    };
    let found = rows!(window, |after, limit| deliveries::page(
        tx, filter, after, limit
    ))?;
    let held = all_shown(tx, service, found.rows).await?;
    let entry = Entry::new(OUTBOX.name(), "notifications.outbox", "outbox");
    let entry = entry.detail("mails", held.len().to_string());
    Ok(tx.audit(entry)?.of(Rows {
        rows: held,
        total: found.total,
    }))
}

async fn all_shown(
    tx: &mut TenantTx,
    service: &Service,
    rows: Vec<DeliveryRow>,
) -> Result<Vec<HeldMail>, NotificationsError> {
    let ids = rows.iter().map(|it| it.notification_id).collect();
    let all = notifications::all(tx, ids).await?;
    let mut held = Vec::with_capacity(rows.len());
    for delivery in rows {
        let of_it = all.iter().find(|it| it.id == delivery.notification_id);
        if let Some(notification) = of_it {
            held.push(shown(tx, service, delivery, notification).await?);
        }
    }
    Ok(held)
}

async fn shown(
    tx: &mut TenantTx,
    service: &Service,
    delivery: DeliveryRow,
    notification: &NotificationRow,
) -> Result<HeldMail, NotificationsError> {
    let token = delivery.unsubscribe_token.as_deref();
    let unsubscribe = token.and_then(|it| service.settings.unsubscribe_url(it));
    let said = match (
        service.content(notification),
        templates::version_of(tx, notification).await?,
    ) {
        (Ok(said), Some(version)) => {
            let recipient = Recipient {
                address: &delivery.recipient,
                name: delivery.name.as_deref(),
                unsubscribe_url: unsubscribe.as_deref(),
            };
            let rendered = said.rendered(&templates::sources(&version), &recipient);
            rendered.map_err(|fault| format!("{} {}", fault.part, fault.problem))
        }
        (said, _) => said.map_err(|error| error.to_string()),
    };
    let problem = said.as_ref().err().cloned();
    let MailText {
        subject,
        text,
        html,
    } = said.map(|it| it.mail()).unwrap_or_default();
    let links = text
        .split_whitespace()
        .map(trimmed)
        .filter(|it| is_link(it));
    let links: Vec<_> = links.take(MOST_LINKS).map(str::to_owned).collect();
    let created_at = delivery.created_at();
    Ok(HeldMail {
        id: delivery.id,
        notification_id: notification.id,
        category: notification.category.clone(),
        purpose: notification.purpose.clone(),
        to: delivery.recipient,
        subject,
        links,
        text,
        html,
        unsubscribe_url: unsubscribe,
        problem,
        created_at,
    })
}

/// A word without what a sentence puts around it.
fn trimmed(word: &str) -> &str {
    let word = word.trim_end_matches(['.', ',', ';', ':', ')', '>', '"', '\'']);
    word.trim_start_matches(['(', '<', '"', '\''])
}

/// The same as a page: text alone, and its links can be followed.
pub(crate) fn page(held: &[HeldMail]) -> Html {
    let mut page = String::from(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Outbox</title><style>\
         body{font-family:sans-serif;max-width:50em;margin:2em auto;padding:0 1em}\
         article{border:1px solid #bbb;border-radius:6px;padding:0 1em;margin:1em 0}\
         pre{white-space:pre-wrap;font-family:inherit}small{color:#555}</style></head><body>\
         <h1>Outbox</h1><p>Held mail: no relay is configured, so it was not sent.</p>",
    );
    if held.is_empty() {
        page += "<p>There is none.</p>";
    }
    for mail in held {
        let lines: Vec<_> = mail.text.lines().map(linked).collect();
        let what = mail.purpose.as_deref().unwrap_or(&mail.category);
        page += &format!(
            "<article><h2>{}</h2><small>to {} · {} · {}</small><pre>{}</pre></article>",
            escaped(&mail.subject),
            escaped(&mail.to),
            escaped(what),
            mail.created_at,
            lines.join("\n"),
        );
    }
    Html(page + "</body></html>")
}
