//! Reports of mail servers (RFC 3464) about mails that the relay had accepted: which mail that was, and what became of it.

use dotmac_platform::{
    audit::{Acts as _, Audit as _, Entry},
    db::{Db, ModuleDb, TenantScope, TenantTx},
};

use super::suppress;
use crate::{
    audit::BOUNCE,
    channel::State,
    error::NotificationsError,
    events,
    smtp::{Reply, is_lasting},
    store::deliveries::{self, DeliveryId, DeliveryRow, Outcome},
};

/// The word for a state that a mail server reported.
const REPORTED: &str = "reported";

/// Lines of a report that are read.
const MOST_LINES: usize = 20_000;

/// What a mail server reports of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    action: Action,
    /// `5.1.1`.
    status: String,
    /// `550 5.1.1 <ann@example.com>: unknown`.
    words: String,
}

/// What became of a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// It did not arrive and will not.
    Failed,
    /// It is in the recipient's mailbox.
    Delivered,
    /// It is tried still, or was handed on: nothing is known.
    Other,
}

/// What a report led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The delivery is in that state now.
    Changed(DeliveryId, State),
    /// It says nothing that changes the delivery.
    Unchanged(DeliveryId),
    /// It is about no mail that is known here.
    Unknown,
    /// It is no report: an answer that somebody's program wrote, perhaps.
    NoReport,
}

/// Takes the message that came to `recipient`, an address that a mail was sent from.
///
/// # Errors
///
/// [`NotificationsError`] if the database does not do it: the message is to be given again.
pub(crate) async fn take(
    (db, open): (&ModuleDb, &Db),
    recipient: &str,
    message: &[u8],
) -> Result<Taken, NotificationsError> {
    let Some(token) = token(recipient) else {
        return Ok(Taken::Unknown);
    };
    let found = open.read("find delivery by its sender", async move |c| {
        deliveries::find_by_token(c, token).await
    });
    let Some(delivery) = found.await? else {
        return Ok(Taken::Unknown);
    };
    let Some(report) = read(&String::from_utf8_lossy(message)) else {
        return Ok(Taken::NoReport);
    };
    let id = delivery.id;
    let state = match report.action {
        Action::Failed => State::Bounced,
        Action::Delivered => State::Delivered,
        Action::Other => return Ok(Taken::Unchanged(id)),
    };
    let scope = TenantScope::system(delivery.tenant_id, "take a report about a mail");
    let db = db.tenant(&scope);
    let changed = db.act("take report", async move |tx| {
        let changed = change(tx, &delivery, state, &report).await?;
        let entry = Entry::new(BOUNCE.name(), "notifications.delivery", id.to_string())
            .detail("state", state.as_str())
            .detail("status", report.status.clone());
        Ok::<_, NotificationsError>(tx.audit(entry)?.of(changed))
    });
    Ok(match changed.await? {
        true => Taken::Changed(id, state),
        false => Taken::Unchanged(id),
    })
}

async fn change(
    tx: &mut TenantTx,
    delivery: &DeliveryRow,
    state: State,
    report: &Report,
) -> Result<bool, NotificationsError> {
    let outcome = Outcome {
        answer: Some(report.words.clone()),
        ..Outcome::decided(state, REPORTED)
    };
    if deliveries::report(tx, delivery.id, outcome).await? == 0 {
        return Ok(false);
    }
    events::emit(tx, delivery, state, (None, Some(REPORTED.to_owned())))?;
    if state == State::Bounced && is_lasting(&Reply::new(550, &report.status)) {
        suppress::bounced(tx, delivery, Some(report.words.clone())).await?;
    }
    Ok(true)
}

/// The word in an address by which mails are told apart: `bounces+4f1c…@example.com`.
fn token(recipient: &str) -> Option<String> {
    let (local, _) = recipient.trim().trim_matches(['<', '>']).rsplit_once('@')?;
    let (_, token) = local.rsplit_once('+')?;
    let is_token = token.len() == 32 && token.bytes().all(|it| it.is_ascii_hexdigit());
    is_token.then(|| token.to_ascii_lowercase())
}

/// Reads the part of type `message/delivery-status`; of several recipients the last, as each of our mails has one.
pub(crate) fn read(message: &str) -> Option<Report> {
    let mut lines = message.lines().take(MOST_LINES).map(str::trim_end);
    lines.find(|line| {
        let line = line.to_ascii_lowercase();
        line.starts_with("content-type:") && line.contains("message/delivery-status")
    })?;
    // The part's other headers.
    lines.find(|line| line.is_empty())?;
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in lines.take_while(|line| !line.starts_with("--")) {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    let field = |name: &str| {
        let found = fields.iter().rev().find(|(it, _)| it == name);
        found.map(|(_, value)| value.as_str())
    };
    let action = match &*field("action")?.to_ascii_lowercase() {
        "failed" => Action::Failed,
        "delivered" => Action::Delivered,
        _ => Action::Other,
    };
    let status = field("status")?.split_whitespace().next()?.to_owned();
    let said = field("diagnostic-code").unwrap_or_default();
    let said = said.split_once(';').map_or(said, |(_, said)| said.trim());
    let words = match said.is_empty() {
        true => status.clone(),
        false => said.to_owned(),
    };
    // Bounded, and on one line.
    let words = Reply::new(0, &words).words;
    let status = Reply::new(0, &status).words;
    Some(Report {
        action,
        status,
        words,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Postfix writes it.
    const FAILED: &str = "From: MAILER-DAEMON@relay.example\r\nTo: bounces+0@example.com\r\n\
        Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"x/relay.example\"\r\n\r\n\
        --x/relay.example\r\nContent-Description: Notification\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n\
        Action: delivered\r\n\r\n--x/relay.example\r\nContent-Description: Delivery report\r\n\
        Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; relay.example\r\n\
        Arrival-Date: Sun, 29 Nov 2026 12:00:00 +0000 (UTC)\r\n\r\nFinal-Recipient: rfc822; ann@example.org\r\n\
        Original-Recipient: rfc822;ann@example.org\r\nAction: failed\r\nStatus: 5.1.1\r\nRemote-MTA: dns; mx.example.org\r\n\
        Diagnostic-Code: smtp; 550 5.1.1 <ann@example.org>: Recipient address\r\n    rejected: unknown\r\n\r\n\
        --x/relay.example\r\nContent-Type: message/rfc822\r\n\r\nStatus: 2.0.0\r\n\r\n--x/relay.example--\r\n";

    #[test]
    fn a_report_says_what_became_of_the_mail() {
        let report = read(FAILED);
        assert_eq!(
            report,
            Some(Report {
                action: Action::Failed,
                status: "5.1.1".to_owned(),
                words: "550 5.1.1 <ann@example.org>: Recipient address rejected: unknown"
                    .to_owned(),
            })
        );
        let delayed = FAILED.replace("Action: failed", "Action: delayed");
        assert_eq!(read(&delayed).map(|it| it.action), Some(Action::Other));
        let delivered = FAILED.replace("Action: failed", "Action: Delivered");
        assert_eq!(
            read(&delivered).map(|it| it.action),
            Some(Action::Delivered)
        );
        let words = FAILED.replace("Diagnostic-Code:", "X-Code:");
        assert_eq!(read(&words).map(|it| it.words), Some("5.1.1".to_owned()));
    }

    #[test]
    fn what_is_no_report_is_none() {
        for text in [
            "",
            "Subject: I am away\r\n\r\nAction: failed\r\nStatus: 5.1.1\r\n",
            "Content-Type: message/delivery-status",
            "Content-Type: message/delivery-status\r\n\r\nStatus: 5.1.1\r\n",
            "Content-Type: message/delivery-status\r\n\r\nAction: failed\r\n",
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

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
}
