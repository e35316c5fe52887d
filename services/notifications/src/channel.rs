//! Channels, and the states of a delivery.

use dotmac_platform::words;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

words! {
    /// A way to reach a recipient.
    #[derive(Serialize, Deserialize, ToSchema)]
    #[serde(rename_all = "snake_case")]
    pub(crate) enum Channel {
        /// Mail, by the relay of `DOTMAC_SMTP_HOST`.
        Email = "email",
        /// The inbox of a user in this program.
        InApp = "in_app",
        /// A call of a URL.
        Webhook = "webhook",
        /// A push message to a browser.
        WebPush = "web_push",
        /// A text message.
        Sms = "sms",
    }
}

words! {
    /// What is known of a delivery: what the next hop answered, and nothing beyond.
    #[derive(Serialize, Deserialize, ToSchema)]
    #[serde(rename_all = "snake_case")]
    pub(crate) enum State {
        /// It waits for its time, or for another attempt.
        Queued = "queued",
        /// It is kept to be read, and not handed over: in development without a relay.
        Held = "held",
        /// The next hop has taken responsibility for it.
        Accepted = "accepted",
        /// It is where its recipient finds it.
        Delivered = "delivered",
        /// There is no such recipient, as the next hop says.
        Bounced = "bounced",
        /// The next hop refuses it, or all attempts are used up.
        Failed = "failed",
        /// The recipient does not want it, or cannot be reached, as is known from before.
        Suppressed = "suppressed",
        /// The connection was lost before the next hop answered: it may have arrived, and is not sent again by itself.
        Unknown = "unknown",
        /// It was called off, or its time was over.
        Cancelled = "cancelled",
    }
}

impl State {
    /// Whether nothing happens to it any more by itself.
    pub(crate) const fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Held)
    }
}

/// The category that preferences do not switch off.
pub(crate) const TRANSACTIONAL: &str = "transactional";

/// The category of a notification that names none.
pub(crate) const GENERAL: &str = "general";

/// Stands for all categories, or all channels.
pub(crate) const ANY: &str = "*";

/// Whether `text` can be the name of a category: 1 to 64 lower-case letters, digits, `_`, `-` and `.`, a letter first.
pub(crate) fn is_category(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.starts_with(|it: char| it.is_ascii_lowercase())
        && text
            .bytes()
            .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || b"_-.".contains(&it))
}
