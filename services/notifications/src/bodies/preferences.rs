//! What users want to get, and recipients that get nothing.

use dotmac_platform::{db::types::Moment, routing::etag};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    channel::Channel,
    store::suppressions::{SuppressionId, SuppressionRow, UNCHANGED},
};

/// The caller's preferences. Whatever is not named is wanted; the most particular one counts.
#[derive(Serialize, Deserialize, Validate, ToSchema)]
pub(crate) struct Preferences {
    /// At most 200.
    #[garde(length(max = 200), dive)]
    pub(crate) items: Vec<Preference>,
    /// When the caller is not to be disturbed; not at all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub(crate) quiet_hours: Option<QuietHours>,
}

/// When mail, text messages and push messages wait, unless they are `transactional` or of high priority.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct QuietHours {
    /// When they begin, by the clock there.
    #[schema(example = "22:00")]
    pub(crate) from: String,
    /// When they end; before `from`, that is on the next day.
    #[schema(example = "08:00")]
    pub(crate) to: String,
    /// Where that is: a time zone by its IANA name.
    #[schema(example = "Europe/Berlin")]
    pub(crate) zone: String,
}

/// Whether messages of a category are wanted by a channel.
#[derive(Clone, Serialize, Deserialize, Validate, ToSchema)]
pub(crate) struct Preference {
    /// The category; `*` for all but `transactional`, which cannot be switched off.
    #[garde(skip)]
    #[schema(example = "news")]
    pub(crate) category: String,
    /// The channel; `*` for all.
    #[garde(skip)]
    #[schema(example = "email")]
    pub(crate) channel: String,
    /// Whether they are wanted.
    #[garde(skip)]
    pub(crate) enabled: bool,
}

/// Which suppressions.
#[derive(Deserialize, IntoParams)]
pub(crate) struct SuppressionsAsked {
    /// Only those of this address.
    pub(crate) recipient: Option<String>,
}

/// A recipient that nothing is sent to.
#[derive(Serialize, ToSchema)]
#[schema(as = Suppression)]
pub(crate) struct SuppressionBody {
    pub(crate) id: SuppressionId,
    /// The channel.
    channel: Channel,
    /// The recipient.
    recipient: String,
    /// What is not sent; `*` for all.
    category: String,
    /// `unsubscribed` or `bounced`.
    reason: String,
    /// What the next hop answered.
    detail: Option<String>,
    created_at: Moment,
    etag: String,
}

impl From<SuppressionRow> for SuppressionBody {
    fn from(row: SuppressionRow) -> Self {
        Self {
            id: row.id,
            channel: row.channel,
            recipient: row.recipient,
            category: row.category,
            reason: row.reason,
            detail: row.detail,
            created_at: row.created_at,
            etag: etag(UNCHANGED),
        }
    }
}
