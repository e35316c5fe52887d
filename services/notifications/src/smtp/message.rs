//! A mail as it is handed to the relay: always text and HTML, and no header or line end that a sender's text brings along.

use std::time::SystemTime;

use chrono::{DateTime, Utc};
use dotmac_platform::{db::types::Moment, mail::EmailAddress};
use lettre::{
    Message,
    message::{
        Attachment, Body, Mailbox, MultiPart, SinglePart,
        header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue},
    },
};

use super::relay::mailbox;

/// The largest mail, in bytes as it is sent.
pub(crate) const MAX_MAIL: usize = 10 * 1024 * 1024;

/// What a mail says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MailText {
    pub(crate) subject: String,
    pub(crate) text: String,
    pub(crate) html: String,
}

/// A file that is attached to a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MailFile {
    pub(crate) name: String,
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
}

/// What a mail is made of.
pub(crate) struct MailParts<'a> {
    pub(crate) from: &'a Mailbox,
    pub(crate) reply_to: Option<&'a Mailbox>,
    pub(crate) to: &'a EmailAddress,
    pub(crate) name: Option<&'a str>,
    /// The same for each attempt, so that a mail which arrives twice is known to be one.
    pub(crate) message_id: &'a str,
    pub(crate) at: Moment,
    pub(crate) text: MailText,
    pub(crate) files: Vec<MailFile>,
    /// Where a `POST` unsubscribes the recipient.
    pub(crate) unsubscribe: Option<&'a str>,
    /// Mail of a program, to which no program should answer.
    pub(crate) category: &'a str,
}

/// The mail, with its recipient's address.
pub(crate) fn build(parts: MailParts<'_>) -> Result<(Vec<u8>, lettre::Address), String> {
    let to = mailbox(parts.to, parts.name.and_then(shown_name))?;
    let address = to.email.clone();
    let at: DateTime<Utc> = parts.at.into();
    let mut message = Message::builder()
        .from(parts.from.clone())
        .to(to)
        .date(SystemTime::from(at))
        .message_id(Some(format!(
            "<{}@{}>",
            parts.message_id,
            parts.from.email.domain()
        )))
        .subject(one_line(&parts.text.subject));
    if let Some(reply_to) = parts.reply_to {
        message = message.reply_to(reply_to.clone());
    }
    message = message
        .raw_header(raw("Auto-Submitted", "auto-generated"))
        .raw_header(raw("X-Dotmac-Category", parts.category));
    if let Some(url) = parts.unsubscribe.filter(|url| is_plain(url)) {
        message = message
            .raw_header(raw("List-Unsubscribe", &format!("<{url}>")))
            .raw_header(raw("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"));
    }
    let MailText { text, html, .. } = parts.text;
    let both = MultiPart::alternative()
        .singlepart(part(ContentType::TEXT_PLAIN, text))
        .singlepart(part(ContentType::TEXT_HTML, html));
    let whole = match parts.files.is_empty() {
        true => both,
        false => {
            let mut mixed = MultiPart::mixed().multipart(both);
            for file in parts.files {
                mixed = mixed.singlepart(attached(file)?);
            }
            mixed
        }
    };
    let message = message.multipart(whole);
    let message = message.map_err(|error| error.to_string())?;
    let content = message.formatted();
    if content.len() > MAX_MAIL {
        return Err(format!(
            "it has {} bytes; {MAX_MAIL} are allowed",
            content.len()
        ));
    }
    Ok((content, address))
}

fn part(kind: ContentType, body: String) -> SinglePart {
    SinglePart::builder().header(kind).body(plain_lines(&body))
}

/// `text` with every line end as `\n`, of which lettre makes `\r\n`, and without other control characters. A `\r` by itself would
/// reach the relay as it is, and some servers take `\r.\r` for the end of a mail, and what follows for another one.
fn plain_lines(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let is_kept = |it: &char| !it.is_control() || matches!(it, '\n' | '\t');
    text.chars().filter(is_kept).collect()
}

/// A file as a part: its bytes arrive as they are, whatever they are.
fn attached(file: MailFile) -> Result<SinglePart, String> {
    const BYTES: &str = "application/octet-stream";
    // What is a message or has parts must not be encoded (RFC 2046, 5.2.1 and RFC 2045, 6.4).
    let is_plain = !["message/", "multipart/"]
        .iter()
        .any(|it| file.media_type.starts_with(it));
    let kind = if is_plain { &*file.media_type } else { BYTES };
    let kind = ContentType::parse(kind).or_else(|_| ContentType::parse(BYTES));
    let kind = kind.map_err(|error| error.to_string())?;
    let body = Body::new_with_encoding(file.bytes, ContentTransferEncoding::Base64);
    let body = body.map_err(|_| "a file cannot be encoded")?;
    Ok(Attachment::new(file_name(&file.name)).body(body, kind))
}

/// A name that ends no header, names no folder, and is read in one direction.
fn file_name(name: &str) -> String {
    let is_harmful = |it: char| is_invisible(it) || matches!(it, '/' | '\\' | '"');
    let name = name.chars().map(|it| if is_harmful(it) { '_' } else { it });
    name.collect()
}

/// A character that is not seen itself, and may end a line or turn the direction of others.
fn is_invisible(it: char) -> bool {
    it.is_control()
        || matches!(it, '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(it, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// A header as it is: what is given is ASCII without line ends.
fn raw(name: &'static str, value: &str) -> HeaderValue {
    let value: String = value.chars().filter(|it| is_plain_char(*it)).collect();
    let name = HeaderName::new_from_ascii_str(name);
    HeaderValue::dangerous_new_pre_encoded(name, value.clone(), value)
}

fn is_plain(text: &str) -> bool {
    text.chars().all(is_plain_char)
}

const fn is_plain_char(letter: char) -> bool {
    matches!(letter, ' '..='~')
}

/// A subject is one line: what could end it is left out.
fn one_line(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|it| if it.is_control() { ' ' } else { it })
        .collect();
    text.trim().to_owned()
}

/// A name that cannot be taken for an address, nor end its header, and is read in one direction.
fn shown_name(name: &str) -> Option<String> {
    let name: String = name
        .chars()
        .filter(|it| !is_invisible(*it) && !matches!(it, '<' | '>' | '"' | '@'))
        .take(100)
        .collect();
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn mail(subject: &str, name: &str, unsubscribe: Option<&str>) -> String {
        let from = mailbox(&EmailAddress::parse("noreply@example.com").unwrap(), None).unwrap();
        let parts = MailParts {
            from: &from,
            reply_to: None,
            to: &EmailAddress::parse("ann@example.org").unwrap(),
            name: Some(name),
            message_id: "0192",
            at: Moment::now(),
            text: MailText {
                subject: subject.to_owned(),
                text: "Grüße\n.\nBcc: x@example.com".to_owned(),
                html: "<p>Grüße</p>".to_owned(),
            },
            files: vec![MailFile {
                name: name.to_owned(),
                media_type: subject.to_owned(),
                bytes: b".\r\nQUIT\r\n\0\xff".to_vec(),
            }],
            unsubscribe,
            category: "news",
        };
        String::from_utf8(build(parts).unwrap().0).unwrap()
    }

    fn head(mail: &str) -> &str {
        mail.split("\r\n\r\n").next().unwrap()
    }

    #[test]
    fn no_field_adds_a_header() {
        for hostile in [
            "a\r\nBcc: x@example.com",
            "a\nBcc: x@example.com",
            "a\rBcc: x@example.com",
            "a\u{85}Bcc: x@example.com",
            "a\u{2028}Bcc: x@example.com",
            "a\0\r\n\r\nbody",
        ] {
            let mail = mail(hostile, hostile, Some(hostile));
            let names: Vec<_> = head(&mail)
                .split("\r\n")
                .filter(|line| !line.starts_with([' ', '\t']))
                .filter_map(|line| Some(line.split_once(':')?.0.to_ascii_lowercase()))
                .collect();
            let allowed = [
                "from",
                "to",
                "date",
                "message-id",
                "subject",
                "auto-submitted",
                "x-dotmac-category",
                "mime-version",
                "content-type",
                "content-transfer-encoding",
                "content-disposition",
            ];
            assert!(
                names.iter().all(|it| allowed.contains(&&**it)),
                "{hostile:?}: {names:?}"
            );
        }
    }

    #[test]
    fn a_file_is_a_part_of_its_own_whose_name_adds_nothing() {
        for (name, expected) in [
            ("a.pdf", "filename=\"a.pdf\""),
            ("Übersicht.pdf", "filename*0*=utf-8''%C3%9Cbersicht.pdf"),
            (
                "a\r\nX-Evil: 1\"; b=\"c",
                "filename=\"a__X-Evil: 1_; b=_c\"",
            ),
            ("../a", "filename=\".._a\""),
            ("a\u{202e}fdp.exe", "filename=\"a_fdp.exe\""),
        ] {
            let mail = mail("Hello", name, None);
            assert!(mail.contains(expected), "{name:?}: {mail}");
            assert!(mail.contains("multipart/mixed") && mail.contains("multipart/alternative"));
            assert!(mail.contains("\r\nLg0KUVVJVA0KAP8="), "{mail}");
            assert!(!mail.contains("X-Evil") || mail.contains("filename=\"a__X-Evil"));
        }
    }

    #[test]
    fn one_click_is_offered_as_the_standard_says() {
        let url = format!("https://example.com/api/v1/u/{}", "a".repeat(120));
        let mail = mail("News", "Ann", Some(&url));
        assert!(
            mail.contains(&format!("\r\nList-Unsubscribe: <{url}>\r\n")),
            "{mail}"
        );
        assert!(mail.contains("\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"));
        assert!(
            mail.contains("multipart/alternative")
                && mail.contains("text/plain")
                && mail.contains("text/html")
        );
        assert!(mail.contains("Message-ID: <0192@example.com>"), "{mail}");
    }

    #[test]
    fn no_text_ends_a_mail_early() {
        let from = mailbox(&EmailAddress::parse("noreply@example.com").unwrap(), None).unwrap();
        for line_end in [
            "\r", "\n", "\r\n", "\r\r\n", "\n\r", "\0\r", "\u{b}\r", "\u{85}",
        ] {
            let hostile = format!(
                "Hello{line_end}.{line_end}MAIL FROM:<boss@example.com>{line_end}DATA{line_end}"
            );
            let parts = MailParts {
                from: &from,
                reply_to: None,
                to: &EmailAddress::parse("ann@example.org").unwrap(),
                name: None,
                message_id: "0192",
                at: Moment::now(),
                text: MailText {
                    subject: "Hello".to_owned(),
                    text: hostile.clone(),
                    html: hostile.clone(),
                },
                files: Vec::new(),
                unsubscribe: None,
                category: "news",
            };
            let content = String::from_utf8(build(parts).unwrap().0).unwrap();
            // Every line ends by both: what is between them is not taken for a line end by any server.
            let between = content.replace("\r\n", "");
            assert!(
                !between.contains(['\r', '\n', '\0']),
                "{hostile:?}: {content:?}"
            );
        }
        assert_eq!(plain_lines("a\r\nb\rc\n\td\0"), "a\nb\nc\n\td");
    }

    #[test]
    fn a_name_is_not_an_address() {
        assert_eq!(
            shown_name("\"boss@example.com\" <x>"),
            Some("bossexample.com x".to_owned())
        );
        assert_eq!(shown_name(" \r\n\u{202e} "), None);
        let turned = shown_name("Ann \u{202e}moc.elpmaxe\u{202c}");
        assert_eq!(turned.as_deref(), Some("Ann moc.elpmaxe"));
    }
}
