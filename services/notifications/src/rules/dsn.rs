//! Reports of mail servers as mails (RFC 3464): what one says of the mail that it is about.

use super::report::{Report, Reported};
use crate::smtp::{Reply, is_lasting};

/// Lines of a report that are read.
const MOST_LINES: usize = 20_000;

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
    let action = field("action")?.to_ascii_lowercase();
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
    let what = match &*action {
        "failed" => Reported::Bounced {
            is_lasting: is_lasting(&Reply::new(550, &status)),
        },
        "delivered" => Reported::Delivered,
        "delayed" => Reported::Deferred,
        // It was handed on to a system that reports nothing.
        _ => Reported::Nothing,
    };
    Some(Report {
        what,
        status: Some(status),
        words: Some(words),
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
                what: Reported::Bounced { is_lasting: true },
                status: Some("5.1.1".to_owned()),
                words: Some(
                    "550 5.1.1 <ann@example.org>: Recipient address rejected: unknown".to_owned()
                ),
            })
        );
        let delayed = FAILED.replace("Action: failed", "Action: delayed");
        assert_eq!(read(&delayed).map(|it| it.what), Some(Reported::Deferred));
        let relayed = FAILED.replace("Action: failed", "Action: relayed");
        assert_eq!(read(&relayed).map(|it| it.what), Some(Reported::Nothing));
        let delivered = FAILED.replace("Action: failed", "Action: Delivered");
        assert_eq!(
            read(&delivered).map(|it| it.what),
            Some(Reported::Delivered)
        );
        let words = FAILED.replace("Diagnostic-Code:", "X-Code:");
        let words = read(&words).and_then(|it| it.words);
        assert_eq!(words.as_deref(), Some("5.1.1"));
        let full = FAILED.replace("Status: 5.1.1", "Status: 5.2.2");
        let expected = Reported::Bounced { is_lasting: false };
        assert_eq!(read(&full).map(|it| it.what), Some(expected));
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
}
