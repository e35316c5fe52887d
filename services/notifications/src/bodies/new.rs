//! A notification to be.

use dotmac_platform::db::types::Moment;
use garde::Validate;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::channel::Channel;

/// The most recipients of a call.
pub(crate) const MOST_RECIPIENTS: usize = 1000;
/// The longest subject and title, in characters.
const LONGEST_SUBJECT: usize = 500;
/// The largest text or HTML that is written out, in bytes.
const MOST_TEXT: usize = 2 * 1024 * 1024;
/// The longest text of an item in an inbox, in bytes.
const MOST_BODY: usize = 16 * 1024;

/// A notification to be sent: content, recipients and channels.
#[derive(Deserialize, Validate, ToSchema)]
pub(crate) struct NewNotification {
    /// A template of the tenant; either this or `content`.
    #[garde(dive)]
    pub(crate) template: Option<TemplateRef>,
    /// What it says; either this or `template`.
    #[garde(dive)]
    pub(crate) content: Option<NewContent>,
    /// Variables of the template.
    #[garde(skip)]
    #[schema(value_type = Option<Object>)]
    pub(crate) data: Option<Map<String, Value>>,
    /// 1 to 1000 recipients.
    #[garde(length(min = 1, max = MOST_RECIPIENTS), dive)]
    pub(crate) to: Vec<NewRecipient>,
    /// Files of the tenant that mails have attached to them. The caller needs the permission `files.files.read`.
    #[garde(length(max = 100), dive)]
    pub(crate) attachments: Option<Vec<NewAttachment>>,
    /// By which channels. Without it: an address by `email`, a number by `sms`, a URL by `webhook`; a user by `in_app`, by
    /// `email` if mail is configured and the user has an address, and by `web_push` in each browser that they subscribed.
    #[garde(inner(length(min = 1, max = 5)))]
    pub(crate) channels: Option<Vec<Channel>>,
    /// What it is about, for preferences: `general` unless it is given. `transactional` cannot be switched off, and needs the
    /// permission `notifications.transactional.write`.
    #[garde(skip)]
    #[schema(example = "news")]
    pub(crate) category: Option<String>,
    /// Before or after others of the tenant.
    #[garde(skip)]
    pub(crate) priority: Option<Priority>,
    /// Not before that time (RFC 3339).
    #[garde(skip)]
    pub(crate) send_at: Option<Moment>,
    /// Not after that time.
    #[garde(skip)]
    pub(crate) expires_at: Option<Moment>,
    /// Mails wait for others of the same key and category to the same recipient, and become one.
    #[garde(dive)]
    pub(crate) digest: Option<NewDigest>,
}

/// A file that mails have attached to them, as it is when they are sent.
#[derive(Clone, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewAttachment {
    /// The id of the file. It is `ready`.
    #[garde(skip)]
    pub(crate) file: Uuid,
}

/// Several mails that become one.
#[derive(Clone, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewDigest {
    /// What belongs together.
    #[garde(length(chars, min = 1, max = 64))]
    #[schema(example = "comments")]
    pub(crate) key: String,
    /// How long the first one waits for others, 1 minute to 7 days.
    #[garde(skip)]
    #[schema(example = "1h")]
    pub(crate) window: String,
}

/// A template: its key or id, or one of these with a version.
#[derive(Clone, Deserialize, Validate, ToSchema)]
#[serde(untagged)]
pub(crate) enum TemplateRef {
    /// Its key or id; the newest version.
    Key(#[garde(length(chars, min = 1, max = 64))] String),
    /// A version of it.
    Version(#[garde(dive)] TemplateVersionRef),
}

/// A version of a template.
#[derive(Clone, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TemplateVersionRef {
    /// Its key or id.
    #[garde(length(chars, min = 1, max = 64))]
    pub(crate) key: String,
    /// The number of the version; the newest without it.
    #[garde(skip)]
    pub(crate) version: Option<i64>,
}

/// What a notification says. A mail always has text and HTML: one that is missing is made of the other.
#[derive(Clone, Deserialize, Validate, ToSchema)]
pub(crate) struct NewContent {
    /// The subject of a mail, one line.
    #[garde(length(chars, min = 1, max = LONGEST_SUBJECT), custom(one_line))]
    pub(crate) subject: Option<String>,
    /// The text of a mail.
    #[garde(length(bytes, min = 1, max = MOST_TEXT))]
    pub(crate) text: Option<String>,
    /// The same as HTML.
    #[garde(length(bytes, min = 1, max = MOST_TEXT))]
    pub(crate) html: Option<String>,
    /// The title of an item in an inbox; the subject without it.
    #[garde(length(chars, min = 1, max = LONGEST_SUBJECT), custom(one_line))]
    pub(crate) title: Option<String>,
    /// The text of an item in an inbox; that of the mail without it.
    #[garde(length(bytes, min = 1, max = MOST_BODY))]
    pub(crate) body: Option<String>,
    /// What programs find with an item in an inbox, at most 16 KiB of JSON.
    #[garde(skip)]
    #[schema(value_type = Option<Object>)]
    pub(crate) data: Option<Map<String, Value>>,
}

/// One recipient, by exactly one of these.
#[derive(Clone, Deserialize, Validate, ToSchema)]
pub(crate) struct NewRecipient {
    /// A user of the tenant.
    #[garde(skip)]
    pub(crate) user: Option<Uuid>,
    /// An e-mail address.
    #[garde(skip)]
    #[schema(example = "ann@example.com")]
    pub(crate) email: Option<String>,
    /// A telephone number (E.164).
    #[garde(skip)]
    #[schema(example = "+49301234567")]
    pub(crate) phone: Option<String>,
    /// A URL that takes a signed call (Standard Webhooks).
    #[garde(skip)]
    #[schema(example = "https://hooks.example.com/notices")]
    pub(crate) url: Option<String>,
}

/// Before or after others.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Priority {
    /// After others.
    Low,
    /// In turn.
    #[default]
    Normal,
    /// Before others.
    High,
}

impl Priority {
    /// That of its jobs.
    pub(crate) const fn of_jobs(self) -> i32 {
        match self {
            Self::Low => 50,
            Self::Normal => 0,
            Self::High => -50,
        }
    }
}

/// Refuses what would end a header.
#[expect(
    clippy::ref_option,
    clippy::trivially_copy_pass_by_ref,
    reason = "garde calls it so"
)]
pub(crate) fn one_line(text: &Option<String>, (): &()) -> garde::Result {
    match text {
        Some(text) if text.chars().any(is_line_end) => Err(garde::Error::new(
            "has a line end or another control character",
        )),
        _ => Ok(()),
    }
}

/// Whether a letter could end a line, for some reader of mail.
fn is_line_end(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}')
}
