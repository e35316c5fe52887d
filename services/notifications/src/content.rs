//! What a notification says, as it is stored, and what of it one recipient gets.

use dotmac_platform::sealing::SealingError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    readable::{html_of, text_of},
    render::{RenderFault, Rendered, Sources},
    smtp::MailText,
};

/// Written by a client, or rendered of a service's template; or a tenant's template with its variables, which is rendered
/// for each recipient.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub(crate) struct Content {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) html: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) title: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<String>,
    /// Of an item in the inbox; variables of a template.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) data: Map<String, Value>,
}

/// What an item in an inbox says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ItemText {
    pub(crate) title: String,
    pub(crate) body: String,
}

/// What a template may know of its recipient.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recipient<'a> {
    pub(crate) address: &'a str,
    pub(crate) name: Option<&'a str>,
    pub(crate) unsubscribe_url: Option<&'a str>,
}

/// The name under which a template finds its recipient.
pub(crate) const RECIPIENT: &str = "recipient";

impl Content {
    /// As JSON.
    pub(crate) fn written(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// From JSON.
    pub(crate) fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// A mail of it.
    pub(crate) fn mail(&self) -> MailText {
        let text = self
            .text
            .clone()
            .or_else(|| self.html.as_deref().map(text_of));
        let text = text.or_else(|| self.body.clone()).unwrap_or_default();
        MailText {
            subject: self
                .subject
                .clone()
                .or_else(|| self.title.clone())
                .unwrap_or_default(),
            html: self.html.clone().unwrap_or_else(|| html_of(&text)),
            text,
        }
    }

    /// An item of it.
    pub(crate) fn item(&self) -> ItemText {
        let body = self.body.clone().or_else(|| self.text.clone());
        ItemText {
            title: self
                .title
                .clone()
                .or_else(|| self.subject.clone())
                .unwrap_or_default(),
            body: body
                .or_else(|| self.html.as_deref().map(text_of))
                .unwrap_or_default(),
        }
    }

    /// What is rendered of `sources` for a recipient, with the variables in this.
    ///
    /// # Errors
    ///
    /// [`RenderFault`].
    pub(crate) fn rendered(
        &self,
        sources: &Sources<'_>,
        recipient: &Recipient<'_>,
    ) -> Result<Self, RenderFault> {
        let mut data = self.data.clone();
        data.insert(RECIPIENT.to_owned(), recipient.variables());
        let rendered = sources.render(&data)?;
        Ok(Self {
            data: Map::new(),
            ..Self::from(rendered)
        })
    }
}

impl From<Rendered> for Content {
    fn from(it: Rendered) -> Self {
        Self {
            subject: it.subject,
            text: it.text,
            html: it.html,
            title: it.title,
            body: it.body,
            data: Map::new(),
        }
    }
}

impl Recipient<'_> {
    fn variables(&self) -> Value {
        serde_json::json!({
            "address": self.address,
            "name": self.name.unwrap_or_default(),
            "unsubscribe_url": self.unsubscribe_url.unwrap_or_default(),
        })
    }
}

/// Why what is stored of a notification cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContentError {
    /// It was deleted once it was not needed any more.
    #[error("the content was deleted")]
    Gone,
    /// It does not open.
    #[error(transparent)]
    Sealed(#[from] SealingError),
    /// It is a version of a template that is not there any more.
    #[error("the template was deleted")]
    NoTemplate,
    /// Its template fails for this recipient.
    #[error("{} of the template {}", .0.part, .0.problem)]
    Render(RenderFault),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_and_inbox_take_what_there_is() {
        let content = Content {
            subject: Some("Hello".to_owned()),
            html: Some("<p>Good <b>day</b></p>".to_owned()),
            ..Content::default()
        };
        assert_eq!(content.mail().text, "Good day\n");
        assert_eq!(content.item().title, "Hello");
        let content = Content {
            title: Some("Hello".to_owned()),
            body: Some("Day".to_owned()),
            ..Content::default()
        };
        let mail = content.mail();
        assert_eq!((&*mail.subject, &*mail.text), ("Hello", "Day"));
        assert!(mail.html.contains("<p>Day</p>"));
        assert_eq!(Content::read(&content.written()), Some(content));
    }

    #[test]
    fn a_template_knows_its_recipient() {
        let mut content = Content::default();
        content.data.insert("what".to_owned(), "news".into());
        let sources = Sources {
            text: Some("{{ recipient.name }}: {{ what }}"),
            ..Sources::default()
        };
        let recipient = Recipient {
            address: "ann@example.com",
            name: Some("Ann"),
            unsubscribe_url: None,
        };
        let rendered = content.rendered(&sources, &recipient).map(|it| it.text);
        assert_eq!(rendered, Ok(Some("Ann: news".to_owned())));
    }
}
