//! Browsers that take push messages, as clients see them.

use dotmac_platform::{
    db::types::Moment,
    routing::{Versioned, etag},
};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::store::push::{SubscriptionId, SubscriptionRow};

/// A subscription as a browser has it: what `PushSubscription.toJSON()` gives.
#[derive(Deserialize, Validate, ToSchema)]
pub(crate) struct NewSubscription {
    /// Where the push service takes messages for the browser: a secret.
    #[garde(length(bytes, min = 1, max = 2048))]
    #[schema(example = "https://push.example.com/send/f1d7…")]
    pub(crate) endpoint: String,
    /// When the subscription ends, in milliseconds since 1970, if the browser says so.
    #[serde(default, alias = "expirationTime")]
    #[garde(range(min = 0, max = 253_402_300_799_000))]
    pub(crate) expiration_time: Option<i64>,
    /// The browser's keys.
    #[garde(skip)]
    pub(crate) keys: NewSubscriptionKeys,
    /// What the user calls it, to find it in a list.
    #[garde(length(chars, min = 1, max = 100))]
    #[schema(example = "Firefox on my laptop")]
    pub(crate) label: Option<String>,
}

/// Keys of a browser.
#[derive(Deserialize, ToSchema)]
pub(crate) struct NewSubscriptionKeys {
    /// Its public key, 65 bytes, base64url.
    #[schema(
        example = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
    )]
    pub(crate) p256dh: String,
    /// Its secret, 16 bytes, base64url.
    #[schema(example = "BTBZMqHH6r4Tts7J_aSIgg")]
    pub(crate) auth: String,
}

/// Which subscription is to end.
#[derive(Deserialize, Validate, ToSchema)]
pub(crate) struct OldSubscription {
    /// Its endpoint, as the browser has it.
    #[garde(length(bytes, min = 1, max = 2048))]
    pub(crate) endpoint: String,
}

/// A browser of the caller that takes push messages.
#[derive(Serialize, ToSchema)]
#[schema(as = PushSubscription)]
pub(crate) struct SubscriptionBody {
    pub(crate) id: SubscriptionId,
    /// The host of the push service.
    push_service: String,
    /// What the user calls it.
    label: Option<String>,
    /// When the subscription ends.
    expires_at: Option<Moment>,
    created_at: Moment,
    /// Changes each time that the browser subscribes again.
    etag: String,
}

impl From<SubscriptionRow> for Versioned<SubscriptionBody> {
    fn from(row: SubscriptionRow) -> Self {
        Self {
            version: row.version,
            body: row.into(),
        }
    }
}

impl From<SubscriptionRow> for SubscriptionBody {
    fn from(row: SubscriptionRow) -> Self {
        Self {
            id: row.id,
            push_service: row.push_service,
            label: row.label,
            expires_at: row.expires_at,
            created_at: row.created_at,
            etag: etag(row.version),
        }
    }
}

/// The caller's browsers, the oldest first: 20 at the most.
#[derive(Serialize, ToSchema)]
#[schema(as = PushSubscriptions)]
pub(crate) struct SubscriptionsBody {
    pub(crate) items: Vec<SubscriptionBody>,
}

/// A public key of this installation.
#[derive(Serialize, ToSchema)]
pub(crate) struct PublicKeyBody {
    /// The key: for browsers the `applicationServerKey`, base64url; for receivers of calls `whpk_…`.
    pub(crate) public_key: String,
}
