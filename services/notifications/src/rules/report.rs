//! What is reported of mails that a relay had accepted: by mail servers as mails, and by relays over HTTP. Which mail that
//! is, and what becomes of it and of its recipient.

use dotmac_platform::{
    audit::{Acts as _, Audit as _, Audited, Entry},
    db::{Db, ModuleDb, TenantScope, TenantTx, types::Moment},
    mail::EmailAddress,
};
use uuid::Uuid;

use super::{
    dsn,
    judge::{BOUNCED, COMPLAINED},
    suppress,
};
use crate::{
    audit::BOUNCE,
    bodies::{NewReport, ReportKind},
    channel::{Channel, State},
    error::NotificationsError,
    events,
    smtp::{Reply, is_lasting},
    store::{
        deliveries::{self, DeliveryId, DeliveryRow, Outcome},
        reports,
    },
};

/// The word for a state that a mail server reported.
const REPORTED: &str = "reported";
/// The word for a mail that a mail server is still trying to hand on.
const DEFERRED: &str = "deferred";

/// What is reported of a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) what: Reported,
    /// `5.1.1`.
    pub(crate) status: Option<String>,
    /// `550 5.1.1 <ann@example.com>: unknown`.
    pub(crate) words: Option<String>,
}

/// What became of a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reported {
    /// It did not arrive and will not; `is_lasting` if no other will either.
    Bounced {
        /// None will.
        is_lasting: bool,
    },
    /// Its recipient says that it is unwanted.
    Complained,
    /// It is tried still.
    Deferred,
    /// It is in the recipient's mailbox.
    Delivered,
    /// It was handed on: nothing is known.
    Nothing,
}

impl Reported {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Bounced { .. } => "bounced",
            Self::Complained => "complained",
            Self::Deferred => "deferred",
            Self::Delivered => "delivered",
            Self::Nothing => "relayed",
        }
    }
}

/// What a report led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The delivery is in that state now.
    Changed(DeliveryId, State),
    /// It says nothing that changes the state of the delivery.
    Unchanged(DeliveryId),
    /// It was taken before.
    Repeated(DeliveryId),
    /// It is about no mail that is known here.
    Unknown,
    /// It is no report: an answer that a program wrote, perhaps.
    NoReport,
}

/// Takes the message that came to `recipient`, an address that a mail was sent from.
///
/// # Errors
///
/// [`NotificationsError`] if the database does not do it, or [`NotificationsError::TooEarly`]: the message is to be given again.
pub(crate) async fn take_mail(
    (db, open): (&ModuleDb, &Db),
    recipient: &str,
    message: &[u8],
) -> Result<Taken, NotificationsError> {
    let Some(delivery) = by_sender(open, recipient).await? else {
        return Ok(Taken::Unknown);
    };
    match dsn::read(&String::from_utf8_lossy(message)) {
        Some(report) => take(db, delivery, report, None).await,
        None => Ok(Taken::NoReport),
    }
}

/// Takes what a relay has reported by a signed call with this id.
///
/// # Errors
///
/// [`NotificationsError::Wrong`] names the field at fault; [`NotificationsError::TooEarly`].
pub(crate) async fn take_call(
    (db, open): (&ModuleDb, &Db),
    id: String,
    new: NewReport,
) -> Result<Taken, NotificationsError> {
    let found = match (&new.message_id, &new.sender) {
        (Some(message), None) => by_message(open, message).await?,
        (None, Some(sender)) => by_sender(open, sender).await?,
        _ => {
            let problem = "is given, or `sender`, and not both";
            return Err(NotificationsError::field("message_id", "invalid", problem));
        }
    };
    let Some(delivery) = found.filter(|it| it.channel == Channel::Email) else {
        return Ok(Taken::Unknown);
    };
    let is_its = |text: &String| {
        let address = EmailAddress::parse(text.trim_matches(['<', '>']));
        address.is_some_and(|it| it.normal() == delivery.recipient_key)
    };
    if !new.recipient.as_ref().is_none_or(is_its) {
        let problem = "is not the recipient of that mail";
        return Err(NotificationsError::field("recipient", "mismatch", problem));
    }
    let report = Report {
        what: what(&new),
        status: new.status.as_deref().map(|it| Reply::new(0, it).words),
        words: new.words.as_deref().map(|it| Reply::new(0, it).words),
    };
    take(db, delivery, report, Some(id)).await
}

/// What a relay says. Without a word of its own, the status says whether a failure is a lasting one.
fn what(new: &NewReport) -> Reported {
    match new.kind {
        ReportKind::Bounced => Reported::Bounced {
            is_lasting: new.permanent.unwrap_or_else(|| {
                let status = new.status.as_deref().unwrap_or_default();
                is_lasting(&Reply::new(550, status))
            }),
        },
        ReportKind::Complained => Reported::Complained,
        ReportKind::Deferred => Reported::Deferred,
        ReportKind::Delivered => Reported::Delivered,
    }
}

async fn take(
    db: &ModuleDb,
    delivery: DeliveryRow,
    report: Report,
    call: Option<String>,
) -> Result<Taken, NotificationsError> {
    if report.what == Reported::Nothing {
        return Ok(Taken::Unchanged(delivery.id));
    }
    let scope = TenantScope::system(delivery.tenant_id, "take a report about a mail");
    let db = db.tenant(&scope);
    let taking = db.act("take report", async move |tx| {
        apply(tx, &delivery, &report, call).await
    });
    taking.await
}

async fn apply(
    tx: &mut TenantTx,
    delivery: &DeliveryRow,
    report: &Report,
    call: Option<String>,
) -> Result<Audited<Taken>, NotificationsError> {
    let id = delivery.id;
    let is_call = call.is_some();
    let is_first = match call {
        Some(call) => reports::insert(tx, call, Moment::now()).await?,
        None => true,
    };
    let taken = match is_first {
        true => change(tx, delivery, report, is_call).await?,
        false => Taken::Repeated(id),
    };
    let entry = Entry::new(BOUNCE.name(), "notifications.delivery", id.to_string())
        .detail("reported", report.what.as_str())
        .detail("status", report.status.clone().unwrap_or_default())
        .detail("repeated", (!is_first).to_string());
    Ok(tx.audit(entry)?.of(taken))
}

async fn change(
    tx: &mut TenantTx,
    delivery: &DeliveryRow,
    report: &Report,
    is_call: bool,
) -> Result<Taken, NotificationsError> {
    use State::{Accepted, Delivered, Queued, Unknown};
    // A relay may report of a mail before its answer is written down. Then the report has nothing to change yet, and is to come
    // again: what this transaction wrote of it is undone.
    let found = deliveries::find(tx, delivery.id).await?;
    if found.is_some_and(|it| it.state == Queued && it.sending_since.is_some()) {
        return Err(NotificationsError::TooEarly);
    }
    let answer = report.words.clone().or_else(|| report.status.clone());
    let taken = [Accepted, Unknown];
    // A server that took it for delivered may learn better from the next one.
    let delivered = [Accepted, Unknown, Delivered];
    let (from, state, reason) = match report.what {
        Reported::Bounced { .. } => (&delivered[..], State::Bounced, REPORTED),
        Reported::Complained => (&delivered[..], Delivered, COMPLAINED),
        Reported::Delivered => (&taken[..], Delivered, REPORTED),
        Reported::Deferred => (&[Accepted][..], Accepted, DEFERRED),
        Reported::Nothing => return Ok(Taken::Unchanged(delivery.id)),
    };
    let outcome = Outcome {
        answer: answer.clone(),
        ..Outcome::decided(state, reason)
    };
    let is_changed = deliveries::report(tx, delivery.id, from.to_vec(), outcome).await? > 0;
    // A complaint counts whatever is known of the mail, and so does an address that is gone. A report without an id of its
    // own may be one that was taken before.
    match report.what {
        _ if !is_changed && !is_call => {}
        Reported::Bounced { is_lasting: true } => {
            suppress::unreachable(tx, delivery, BOUNCED, answer).await?;
        }
        Reported::Complained => suppress::unreachable(tx, delivery, COMPLAINED, answer).await?,
        _ => {}
    }
    if !is_changed || state == delivery.state {
        return Ok(Taken::Unchanged(delivery.id));
    }
    events::emit(tx, delivery, state, (None, Some(reason.to_owned())))?;
    Ok(Taken::Changed(delivery.id, state))
}

/// The delivery of the mail that was sent from that address.
async fn by_sender(open: &Db, sender: &str) -> Result<Option<DeliveryRow>, NotificationsError> {
    let Some(token) = token(sender) else {
        return Ok(None);
    };
    let found = open.read("find delivery by its sender", async move |c| {
        deliveries::find_by_token(c, token).await
    });
    Ok(found.await?)
}

/// The delivery of the mail with that `Message-ID`.
async fn by_message(open: &Db, message: &str) -> Result<Option<DeliveryRow>, NotificationsError> {
    let Some(id) = message_id(message) else {
        return Ok(None);
    };
    let found = open.read("find delivery by its message", async move |c| {
        deliveries::find_anywhere(c, id).await
    });
    Ok(found.await?)
}

/// The delivery in a `Message-ID`: `<01935c…@example.com>`.
fn message_id(text: &str) -> Option<DeliveryId> {
    let text = text.trim().trim_matches(['<', '>']);
    let id = text.split_once('@').map_or(text, |(id, _)| id);
    Some(DeliveryId::from_uuid(Uuid::try_parse(id).ok()?))
}

/// The part of an address that identifies a mail: `bounces+4f1c…@example.com`.
fn token(recipient: &str) -> Option<String> {
    let (local, _) = recipient.trim().trim_matches(['<', '>']).rsplit_once('@')?;
    let (_, token) = local.rsplit_once('+')?;
    let is_token = token.len() == 32 && token.bytes().all(|it| it.is_ascii_hexdigit());
    is_token.then(|| token.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_its_mail() {
        let word = "0123456789abcdef0123456789ABCDEF";
        let lower = word.to_ascii_lowercase();
        for (address, expected) in [
            (format!("bounces+{word}@example.com"), Some(lower.clone())),
            (format!("<b+c+{word}@example.com>\n"), Some(lower)),
            (format!("bounces+{word}0@example.com"), None),
            ("bounces@example.com".to_owned(), None),
            (format!("bounces+{word}"), None),
            (format!("bounces+{}@example.com", "g".repeat(32)), None),
        ] {
            assert_eq!(token(&address), expected, "{address}");
        }
    }

    #[test]
    fn a_message_names_its_delivery() {
        let id = "01935c00-0000-7000-8000-000000000001";
        for (text, is_one) in [
            (format!("<{id}@example.com>"), true),
            (format!(" {id}@example.com "), true),
            (id.to_owned(), true),
            (format!("<x{id}@example.com>"), false),
            (String::new(), false),
        ] {
            let found = message_id(&text).map(|it| it.to_string());
            assert_eq!(found, is_one.then(|| id.to_owned()), "{text}");
        }
    }

    #[test]
    fn the_status_says_whether_a_failure_lasts_unless_the_relay_does() {
        let new = |status: &str, permanent| NewReport {
            kind: ReportKind::Bounced,
            message_id: None,
            sender: None,
            recipient: None,
            permanent,
            status: Some(status.to_owned()),
            words: None,
        };
        for (status, permanent, is_lasting) in [
            ("5.1.1", None, true),
            ("5.2.2", None, false),
            ("", None, false),
            ("5.2.2", Some(true), true),
            ("5.1.1", Some(false), false),
        ] {
            assert_eq!(
                what(&new(status, permanent)),
                Reported::Bounced { is_lasting },
                "{status}"
            );
        }
    }
}
