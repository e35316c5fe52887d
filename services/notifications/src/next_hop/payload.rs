//! What a notification says by each channel that is called by HTTP, and whether it fits.

use serde_json::{Map, Value, json};

use super::encryption::MOST_TEXT;
use crate::{channel::Channel, content::Content};

/// The longest text message, in characters: ten parts of one, as providers take it.
const MOST_SMS: usize = 1600;
/// The largest body that is sent to a URL, in bytes.
const MOST_BODY: usize = 64 * 1024;

/// What identifies a message to its receiver.
pub(crate) struct Message<'a> {
    /// That of the delivery.
    pub(crate) id: &'a str,
    pub(crate) notification: &'a str,
    pub(crate) category: &'a str,
    /// When it was accepted, RFC 3339.
    pub(crate) created_at: &'a str,
}

impl Message<'_> {
    /// What a browser is sent.
    ///
    /// # Errors
    ///
    /// It has not the place in a push message.
    pub(crate) fn push(&self, content: &Content) -> Result<String, String> {
        let item = content.item();
        let mut said = json!({
            "id": self.id,
            "category": self.category,
            "title": item.title,
            "body": item.body,
        });
        if !content.data.is_empty() {
            said["data"] = Value::Object(content.data.clone());
        }
        bounded(said.to_string(), MOST_TEXT)
    }

    /// What a receiver of a webhook is sent.
    ///
    /// # Errors
    ///
    /// It is larger than bodies may be.
    pub(crate) fn webhook(&self, content: &Content) -> Result<String, String> {
        let (mail, item) = (content.mail(), content.item());
        let mut data = Map::new();
        data.insert("notification_id".to_owned(), self.notification.into());
        data.insert("category".to_owned(), self.category.into());
        data.insert("title".to_owned(), item.title.into());
        data.insert("text".to_owned(), mail.text.into());
        if let Some(html) = &content.html {
            data.insert("html".to_owned(), html.clone().into());
        }
        data.insert("data".to_owned(), Value::Object(content.data.clone()));
        let said = json!({
            "type": "notification.v1",
            "timestamp": self.created_at,
            "data": data,
        });
        bounded(said.to_string(), MOST_BODY)
    }
}

/// The text of a text message.
///
/// # Errors
///
/// It is empty, or longer than providers take.
pub(crate) fn sms(content: &Content) -> Result<String, String> {
    let text = content.item().body.trim().to_owned();
    let length = text.chars().count();
    if length == 0 {
        return Err("a text message needs a text".to_owned());
    }
    if length > MOST_SMS {
        return Err(format!(
            "it has {length} characters; a text message has at most {MOST_SMS}"
        ));
    }
    Ok(text)
}

/// Whether `content` can be said by `channel`: the field at fault, and why not.
///
/// # Errors
///
/// The field that is missing or too large.
pub(crate) fn check(content: &Content, channel: Channel) -> Result<(), (&'static str, String)> {
    let longest = "0".repeat(64);
    let message = Message {
        id: &longest[..36],
        notification: &longest[..36],
        category: &longest,
        created_at: &longest[..27],
    };
    match channel {
        Channel::Email | Channel::InApp => Ok(()),
        Channel::Sms => sms(content).map(drop).map_err(|problem| ("text", problem)),
        Channel::WebPush => {
            if content.item().title.trim().is_empty() {
                return Err(("title", "is needed for the channel `web_push`".to_owned()));
            }
            let said = message.push(content);
            said.map(drop).map_err(|problem| ("body", problem))
        }
        Channel::Webhook => {
            let said = message.webhook(content);
            said.map(drop).map_err(|problem| ("text", problem))
        }
    }
}

fn bounded(text: String, most: usize) -> Result<String, String> {
    let length = text.len();
    if length > most {
        return Err(format!(
            "it makes a message of {length} bytes; {most} are allowed"
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(body: &str) -> Content {
        Content {
            title: Some("Hello".to_owned()),
            body: Some(body.to_owned()),
            ..Content::default()
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let field = |body: &str, channel| check(&content(body), channel).err().map(|it| it.0);
        for (length, channel, expected) in [
            (1600, Channel::Sms, None),
            (1601, Channel::Sms, Some("text")),
            (3700, Channel::WebPush, None),
            (4000, Channel::WebPush, Some("body")),
            (60_000, Channel::Webhook, None),
            (70_000, Channel::Webhook, Some("text")),
            (70_000, Channel::Email, None),
        ] {
            assert_eq!(
                field(&"ä".repeat(length / 2), channel),
                expected.filter(|_| channel != Channel::Sms),
                "{length} {channel}"
            );
            assert_eq!(
                field(&"a".repeat(length), channel),
                expected,
                "{length} {channel}"
            );
        }
        assert_eq!(field(" ", Channel::Sms), Some("text"));
    }

    #[test]
    fn a_receiver_finds_what_it_is_about() {
        let message = Message {
            id: "1",
            notification: "2",
            category: "news",
            created_at: "2026-11-29T12:00:00Z",
        };
        let said = message.webhook(&content("a")).unwrap_or_default();
        let said: Value = serde_json::from_str(&said).unwrap_or_default();
        assert_eq!(said["type"], "notification.v1");
        assert_eq!(said["data"]["text"], "a");
        let said = message.push(&content("a")).unwrap_or_default();
        let said: Value = serde_json::from_str(&said).unwrap_or_default();
        let expected = json!({ "id": "1", "category": "news", "title": "Hello", "body": "a" });
        assert_eq!(said, expected);
    }
}
