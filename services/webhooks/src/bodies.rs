//! What requests and answers have in them.

use std::collections::BTreeMap;

use dotmac_platform::{
    db::types::Moment,
    delivery::Attempt,
    routing::{Change, not_null},
};
use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    patterns::{LONGEST_PATTERN, MOST_PATTERNS, is_pattern},
    rules::headers::MOST_HEADERS,
    store::states::{DeliveryState, EndpointState, Signing},
};

const LONGEST_URL: usize = 2048;
const LONGEST_DESCRIPTION: usize = 500;

/// An endpoint to be.
#[derive(Deserialize, Validate, ToSchema)]
#[schema(as = NewWebhook)]
pub(crate) struct NewEndpoint {
    /// Where deliveries are sent by `POST`: `https`, and `http` outside production. Public addresses only.
    #[garde(length(bytes, min = 1, max = LONGEST_URL))]
    #[schema(example = "https://example.com/hooks")]
    pub(crate) url: String,
    /// What it is for.
    #[serde(default)]
    #[garde(length(chars, max = LONGEST_DESCRIPTION), custom(printable))]
    pub(crate) description: String,
    /// Which events it gets: types, or their begin: `file.created.v1`, `file.*`, `*`.
    #[garde(length(min = 1, max = MOST_PATTERNS), inner(length(bytes, max = LONGEST_PATTERN), custom(pattern)))]
    #[schema(example = json!(["file.*"]))]
    pub(crate) events: Vec<String>,
    /// Headers that each delivery has. Their values are kept encrypted, and not shown again.
    #[serde(default)]
    #[garde(length(max = MOST_HEADERS))]
    #[schema(example = json!({"x-team": "billing"}))]
    pub(crate) headers: BTreeMap<String, String>,
    /// What deliveries are signed with; `hmac` unless it is said.
    #[garde(skip)]
    pub(crate) signing: Option<Signing>,
}

/// What is to be changed of an endpoint; the rest stays as it is.
#[derive(Deserialize, Validate, ToSchema)]
#[schema(as = WebhookPatch)]
pub(crate) struct EndpointPatch {
    /// Another URL.
    #[serde(default)]
    #[garde(custom(not_null), inner(length(bytes, min = 1, max = LONGEST_URL)))]
    pub(crate) url: Change<String>,
    /// Another description; `null` for none.
    #[serde(default)]
    #[garde(inner(length(chars, max = LONGEST_DESCRIPTION), custom(printable)))]
    pub(crate) description: Change<String>,
    /// Other events in place of all there were.
    #[serde(default)]
    #[garde(custom(not_null), inner(length(min = 1, max = MOST_PATTERNS), inner(length(bytes, max = LONGEST_PATTERN), custom(pattern))))]
    pub(crate) events: Change<Vec<String>>,
    /// Headers to be set, or with `null` to be taken away; `null` for all of them. Others stay.
    #[serde(default)]
    #[garde(inner(length(max = MOST_HEADERS)))]
    pub(crate) headers: Change<BTreeMap<String, Option<String>>>,
}

/// How a secret is rotated.
#[derive(Deserialize, Validate, ToSchema)]
#[schema(as = WebhookRotation)]
pub(crate) struct Rotation {
    /// How long the former secret also signs, such as `24h`; at most `7d`. `0s` ends it at once.
    #[serde(default)]
    #[garde(inner(length(bytes, max = 20)))]
    #[schema(example = "24h")]
    pub(crate) overlap: Option<String>,
}

/// The deliveries to restart.
#[derive(Deserialize, Validate, ToSchema)]
#[schema(as = WebhookRecovery)]
pub(crate) struct Recovery {
    /// Those made since then (RFC 3339).
    #[garde(skip)]
    pub(crate) since: Moment,
}

/// The number of restarted deliveries.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookRecovered)]
pub(crate) struct Recovered {
    /// How many.
    pub(crate) recovered: u64,
    /// Whether there may be more: one call begins 10,000 at the most.
    pub(crate) more: bool,
}

/// An endpoint.
#[derive(Clone, Serialize, ToSchema)]
#[schema(as = Webhook)]
pub(crate) struct EndpointBody {
    /// Its id.
    pub(crate) id: Uuid,
    /// Where deliveries are sent.
    #[schema(example = "https://example.com/hooks")]
    pub(crate) url: String,
    /// What it is for.
    pub(crate) description: String,
    /// Which events it gets.
    #[schema(example = json!(["file.*"]))]
    pub(crate) events: Vec<String>,
    /// Its headers, with `[redacted]` in place of each value.
    pub(crate) headers: BTreeMap<String, String>,
    /// What deliveries are signed with.
    pub(crate) signing: Signing,
    /// Of `ed25519`, what signatures are verified with.
    pub(crate) public_key: Option<String>,
    /// Whether it gets deliveries.
    pub(crate) state: EndpointState,
    /// Why it is disabled: `gone` or `failing`.
    pub(crate) state_reason: Option<String>,
    /// The time until which a former secret also signs.
    pub(crate) former_secret_until: Option<Moment>,
    /// When it was made.
    pub(crate) created_at: Moment,
    /// When it was last changed.
    pub(crate) updated_at: Moment,
}

/// An endpoint that was made, or got another secret.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookWithSecret)]
pub(crate) struct MadeEndpoint {
    /// What signatures are verified with, shown this once: `whsec_…`, or of `ed25519` the public key `whpk_…`.
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    pub(crate) secret: String,
    /// The rest of it.
    #[serde(flatten)]
    pub(crate) about: EndpointBody,
}

/// How an endpoint does.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookStats)]
pub(crate) struct StatsBody {
    /// Deliveries of the last 24 hours that wait.
    pub(crate) pending: i64,
    /// Those of which an attempt is under way.
    pub(crate) sending: i64,
    /// Those that were delivered.
    pub(crate) delivered: i64,
    /// Those that were given up.
    pub(crate) failed: i64,
    /// Attempts of the last 24 hours, the last 10,000 of them at the most; so are the next three.
    pub(crate) attempts: i64,
    /// How many of them were answered with a status from 200 to 299.
    pub(crate) succeeded: i64,
    /// Within how many milliseconds half of them ended.
    pub(crate) duration_ms_p50: Option<i64>,
    /// Within how many milliseconds 95 of 100 ended.
    pub(crate) duration_ms_p95: Option<i64>,
    /// How many attempts may be under way at once, now.
    pub(crate) concurrency: u32,
    /// Failures in a row.
    pub(crate) failures: u32,
    /// When the first of them was.
    pub(crate) failing_since: Option<Moment>,
    /// Until when nothing is sent.
    pub(crate) held_until: Option<Moment>,
    /// When an attempt last succeeded.
    pub(crate) last_success_at: Option<Moment>,
    /// When one last failed.
    pub(crate) last_failure_at: Option<Moment>,
}

/// Which deliveries.
#[derive(Deserialize, IntoParams)]
pub(crate) struct Asked {
    /// Only those of this endpoint.
    pub(crate) endpoint: Option<String>,
    /// Only those in this state: `pending`, `sending`, `delivered`, `failed`.
    pub(crate) state: Option<String>,
    /// Only those of events of this type, as `file.created.v1`.
    pub(crate) event: Option<String>,
}

/// A delivery.
#[derive(Clone, Serialize, ToSchema)]
#[schema(as = WebhookDelivery)]
pub(crate) struct DeliveryBody {
    /// Its id.
    pub(crate) id: Uuid,
    /// Where it goes.
    pub(crate) endpoint: Uuid,
    /// The type of its event.
    #[schema(example = "file.created.v1")]
    pub(crate) event: String,
    /// The id of its event, which the receiver gets as `webhook-id`: the same for each attempt.
    pub(crate) message_id: Uuid,
    /// What has become of it.
    pub(crate) state: DeliveryState,
    /// How often it was tried.
    pub(crate) attempt_count: i32,
    /// When it is tried again, if it waits.
    pub(crate) next_attempt_at: Option<Moment>,
    /// What the receiver answered last.
    pub(crate) last_status: Option<i32>,
    /// Why its last attempt failed.
    pub(crate) last_error: Option<String>,
    /// When it was made.
    pub(crate) created_at: Moment,
    /// When it was delivered or given up.
    pub(crate) finished_at: Option<Moment>,
}

/// A delivery with what was sent and what came of it.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookDeliveryDetail)]
pub(crate) struct DetailBody {
    #[serde(flatten)]
    pub(crate) delivery: DeliveryBody,
    /// What is sent.
    pub(crate) payload: Value,
    /// Its attempts, the newest first, at most 100.
    pub(crate) attempts: Vec<Attempt>,
}

/// A type of events that endpoints can get.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookEvent)]
pub(crate) struct EventBody {
    /// Its name.
    #[schema(example = "file.created.v1")]
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// What it says of itself.
    pub(crate) description: Option<String>,
    /// The JSON Schema of `data`.
    pub(crate) schema: Value,
}

fn pattern(text: &str, (): &()) -> garde::Result {
    if is_pattern(text) {
        Ok(())
    } else {
        Err(garde::Error::new(
            "is no type of events nor the begin of one: `file.created.v1`, `file.*`, `*`",
        ))
    }
}

fn printable(text: &str, (): &()) -> garde::Result {
    if text.chars().any(char::is_control) {
        Err(garde::Error::new("has control characters"))
    } else {
        Ok(())
    }
}
