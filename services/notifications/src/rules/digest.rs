//! Digests: several messages to one recipient that become one mail.
//!
//! The first of them leads: it has the job, and what joins it has its outcome. It is closed before its mail is made, so that a
//! message joins either in time or not at all.

use std::{collections::BTreeMap, time::Duration};

use dotmac_platform::{
    db::{TenantTx, types::Moment},
    jobs::EnqueueOptions,
};

use super::send;
use crate::{
    bodies::NewNotification,
    channel::{Channel, State, TRANSACTIONAL},
    error::NotificationsError,
    jobs::Deliver,
    readable::paragraphs,
    smtp::MailText,
    store::{
        deliveries::{DeliveryId, DeliveryRow},
        digests::{self, DigestRow},
    },
};

const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// What belongs together, and how long the first waits.
pub(super) struct Window {
    key: String,
    lasts: Duration,
}

/// What a request says of its digest.
///
/// # Errors
///
/// [`NotificationsError::Wrong`] for a window that is none, and for what cannot wait.
pub(super) fn window(
    new: &NewNotification,
    category: &str,
) -> Result<Option<Window>, NotificationsError> {
    let Some(digest) = &new.digest else {
        return Ok(None);
    };
    let wrong =
        |field: &str, problem: &str| Err(NotificationsError::field(field, "invalid", problem));
    let lasts = humantime::parse_duration(&digest.window).ok();
    let Some(lasts) = lasts.filter(|it| (SHORTEST..=LONGEST).contains(it)) else {
        return wrong("digest.window", "is no time from `1m` to `7d`");
    };
    if category == TRANSACTIONAL {
        return wrong(
            "digest",
            "cannot be used with `transactional` messages, which are sent at once",
        );
    }
    if new.send_at.is_some() || new.expires_at.is_some() {
        return wrong(
            "digest",
            "has its own time: not with `send_at` or `expires_at`",
        );
    }
    Ok(Some(Window {
        key: digest.key.clone(),
        lasts,
    }))
}

/// Has the mails among `rows` join the digests of their recipients: each, and the first of its digest.
pub(super) async fn join(
    tx: &mut TenantTx,
    window: &Window,
    category: &str,
    rows: &mut [DeliveryRow],
) -> Result<BTreeMap<DeliveryId, DeliveryId>, NotificationsError> {
    let (now, mut members) = (Moment::now(), BTreeMap::new());
    // In one order, so that two calls with the same recipients do not wait for each other.
    let mut waiting: Vec<_> = rows
        .iter_mut()
        .filter(|it| it.channel == Channel::Email && it.state == State::Queued)
        .collect();
    waiting.sort_by(|one, other| one.recipient_key.cmp(&other.recipient_key));
    for row in waiting {
        let joining = DigestRow {
            tenant_id: row.tenant_id,
            recipient_key: row.recipient_key.clone(),
            category: category.to_owned(),
            digest_key: window.key.clone(),
            delivery_id: row.id,
            due_at: now + window.lasts,
            size: 1,
        };
        let (first, due_at) = digests::join(tx, joining, now).await?;
        members.insert(row.id, first);
        row.next_attempt_at = Some(due_at);
    }
    Ok(members)
}

/// Notes what is sent with what, once the deliveries are stored.
pub(super) async fn add(
    tx: &mut TenantTx,
    members: &BTreeMap<DeliveryId, DeliveryId>,
) -> Result<(), NotificationsError> {
    match members.is_empty() {
        true => Ok(()),
        false => Ok(digests::add(tx, members).await?),
    }
}

/// Enqueues the job that sends a digest when it is due.
pub(super) async fn enqueue(
    tx: &mut TenantTx,
    first: &DeliveryRow,
) -> Result<(), NotificationsError> {
    let options = EnqueueOptions::new();
    let options = match first.next_attempt_at {
        Some(due) if due > Moment::now() => options.run_at(due),
        _ => options,
    };
    let job = Deliver {
        is_digest: true,
        ..Deliver::of(first.tenant_id, first.id)
    };
    send::add(tx, &job, options).await
}

/// What was to be sent with `delivery`, which was called off, is sent by itself.
pub(super) async fn pass_on(
    tx: &mut TenantTx,
    delivery: &DeliveryRow,
) -> Result<(), NotificationsError> {
    if digests::first_of(tx, delivery.id).await? != Some(delivery.id) {
        return Ok(());
    }
    digests::close(tx, delivery.id).await?;
    let members = digests::members(tx, delivery.id).await?;
    let Some(next) = members.first() else {
        return Ok(());
    };
    digests::pass_on(tx, delivery.id, next.id).await?;
    enqueue(tx, next).await
}

/// One mail of several: that of the first, with the others below it.
pub(super) fn together(first: MailText, others: impl Iterator<Item = MailText>) -> MailText {
    let others: Vec<_> = others.collect();
    if others.is_empty() {
        return first;
    }
    let subject = format!("{} (+{})", first.subject, others.len());
    let (mut text, mut html) = (String::new(), String::from("<!doctype html><html><body>"));
    for mail in std::iter::once(first).chain(others) {
        let line = "-".repeat(mail.subject.chars().count().min(72));
        text += &format!("{}\n{line}\n\n{}\n\n", mail.subject, mail.text.trim_end());
        let title = dotmac_platform::routing::escaped(&mail.subject);
        html += &format!("<h2>{title}</h2>{}", paragraphs(&mail.text));
    }
    html += "</body></html>";
    MailText {
        subject,
        text,
        html,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(subject: &str, text: &str) -> MailText {
        MailText {
            subject: subject.to_owned(),
            text: text.to_owned(),
            html: "<b>not this</b>".to_owned(),
        }
    }

    #[test]
    fn several_messages_are_one_mail_and_one_is_itself() {
        let one = mail("Ann", "Good day.");
        assert_eq!(together(one.clone(), std::iter::empty()), one);
        let both = together(one, [mail("<Bob>", "Bye.")].into_iter());
        assert_eq!(both.subject, "Ann (+1)");
        assert_eq!(
            both.text,
            "Ann\n---\n\nGood day.\n\n<Bob>\n-----\n\nBye.\n\n"
        );
        assert_eq!(
            both.html,
            "<!doctype html><html><body><h2>Ann</h2><p>Good day.</p><h2>&lt;Bob&gt;</h2><p>Bye.</p></body></html>"
        );
    }
}
