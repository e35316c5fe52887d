//! Templates as clients see them.

use dotmac_platform::{db::types::Moment, routing::Change};
use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    content::Content,
    render::MAX_SOURCE,
    store::templates::{TemplateId, TemplateRow, VersionRow},
};

/// A template to be. A mail always has text and HTML: one that is missing is made of the other.
#[derive(Deserialize, Validate, ToSchema)]
pub(crate) struct NewTemplate {
    /// By which it is named: 1 to 64 lower-case letters, digits, `_`, `-` and `.`, a letter first.
    #[garde(skip)]
    #[schema(example = "welcome")]
    pub(crate) key: String,
    /// What it is for.
    #[garde(length(chars, max = 500))]
    pub(crate) description: Option<String>,
    /// The subject of a mail.
    #[garde(length(bytes, min = 1, max = MAX_SOURCE))]
    #[schema(example = "Welcome, {{ recipient.name }}")]
    pub(crate) subject: Option<String>,
    /// The text of a mail.
    #[garde(length(bytes, min = 1, max = MAX_SOURCE))]
    pub(crate) text: Option<String>,
    /// The same as HTML; values are escaped in it.
    #[garde(length(bytes, min = 1, max = MAX_SOURCE))]
    pub(crate) html: Option<String>,
    /// The title of an item in an inbox.
    #[garde(length(bytes, min = 1, max = MAX_SOURCE))]
    pub(crate) title: Option<String>,
    /// The text of an item in an inbox.
    #[garde(length(bytes, min = 1, max = MAX_SOURCE))]
    pub(crate) body: Option<String>,
}

/// What is to be changed of a template; the rest stays. It becomes a new version.
#[derive(Deserialize, Validate, ToSchema)]
pub(crate) struct TemplatePatch {
    /// What it is for.
    #[serde(default)]
    #[garde(inner(length(chars, max = 500)))]
    pub(crate) description: Change<String>,
    /// The subject of a mail.
    #[serde(default)]
    #[garde(inner(length(bytes, min = 1, max = MAX_SOURCE)))]
    pub(crate) subject: Change<String>,
    /// The text of a mail.
    #[serde(default)]
    #[garde(inner(length(bytes, min = 1, max = MAX_SOURCE)))]
    pub(crate) text: Change<String>,
    /// The same as HTML.
    #[serde(default)]
    #[garde(inner(length(bytes, min = 1, max = MAX_SOURCE)))]
    pub(crate) html: Change<String>,
    /// The title of an item in an inbox.
    #[serde(default)]
    #[garde(inner(length(bytes, min = 1, max = MAX_SOURCE)))]
    pub(crate) title: Change<String>,
    /// The text of an item in an inbox.
    #[serde(default)]
    #[garde(inner(length(bytes, min = 1, max = MAX_SOURCE)))]
    pub(crate) body: Change<String>,
}

/// A template in its newest version.
#[derive(Serialize, ToSchema)]
#[schema(as = Template)]
pub(crate) struct TemplateBody {
    pub(crate) id: TemplateId,
    pub(crate) key: String,
    description: Option<String>,
    /// The number of its newest version.
    pub(crate) version: i64,
    subject: Option<String>,
    text: Option<String>,
    html: Option<String>,
    title: Option<String>,
    body: Option<String>,
    created_at: Moment,
    updated_at: Moment,
}

impl TemplateBody {
    pub(crate) fn new(row: TemplateRow, newest: VersionRow) -> Self {
        Self {
            id: row.id,
            key: row.key,
            description: row.description,
            version: row.version,
            subject: newest.subject,
            text: newest.text,
            html: newest.html,
            title: newest.title,
            body: newest.body,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// A version of a template.
#[derive(Serialize, ToSchema)]
#[schema(as = TemplateVersion)]
pub(crate) struct VersionBody {
    /// Its number.
    version: i64,
    subject: Option<String>,
    text: Option<String>,
    html: Option<String>,
    title: Option<String>,
    body: Option<String>,
    created_at: Moment,
}

impl From<VersionRow> for VersionBody {
    fn from(row: VersionRow) -> Self {
        Self {
            version: row.number,
            subject: row.subject,
            text: row.text,
            html: row.html,
            title: row.title,
            body: row.body,
            created_at: row.created_at,
        }
    }
}

/// What a template is rendered with.
#[derive(Deserialize, Validate, ToSchema)]
pub(crate) struct RenderAsked {
    /// Its variables.
    #[serde(default)]
    #[garde(skip)]
    #[schema(value_type = Object)]
    pub(crate) data: Map<String, Value>,
    /// The version; the newest without it.
    #[garde(skip)]
    pub(crate) version: Option<i64>,
}

/// What a test mail is rendered with.
#[derive(Deserialize, Validate, ToSchema)]
pub(crate) struct TestAsked {
    /// Where it goes; to the caller's own address without it.
    #[garde(skip)]
    #[schema(example = "ann@example.com")]
    pub(crate) to: Option<String>,
    /// Its variables.
    #[serde(default)]
    #[garde(skip)]
    #[schema(value_type = Object)]
    pub(crate) data: Map<String, Value>,
    /// The version; the newest without it.
    #[garde(skip)]
    pub(crate) version: Option<i64>,
}

/// What a template becomes: as it would be sent.
#[derive(Serialize, ToSchema)]
#[schema(as = RenderedTemplate)]
pub(crate) struct RenderedBody {
    /// The version.
    pub(crate) version: i64,
    /// The subject of a mail.
    subject: String,
    /// The text of a mail.
    text: String,
    /// The same as HTML.
    html: String,
    /// The title of an item in an inbox.
    title: String,
    /// The text of an item in an inbox.
    body: String,
}

impl RenderedBody {
    pub(crate) fn new(version: i64, content: &Content) -> Self {
        let (mail, item) = (content.mail(), content.item());
        Self {
            version,
            subject: mail.subject,
            text: mail.text,
            html: mail.html,
            title: item.title,
            body: item.body,
        }
    }
}
