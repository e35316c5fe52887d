//! What is sent: the body of a delivery, in the form that Standard Webhooks proposes.

use dotmac_platform::{db::types::Moment, events::StoredEvent};
use serde::Serialize;
use serde_json::Value;

/// The most that a body may have, in bytes.
pub(crate) const MAX_PAYLOAD: usize = 64 * 1024;

#[derive(Serialize)]
struct Payload<'p> {
    /// The type of the event.
    #[serde(rename = "type")]
    kind: &'p str,
    /// When it happened.
    timestamp: Moment,
    /// What it happened to.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'p str>,
    /// Its place in the log: as texts, these sort as the events do.
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<String>,
    /// What is particular to its type.
    data: &'p Value,
}

/// The body for something that is in no log.
pub(crate) fn of(kind: &str, timestamp: Moment, data: &Value) -> String {
    let payload = Payload {
        kind,
        timestamp,
        subject: None,
        sequence: None,
        data,
    };
    serde_json::to_string(&payload).unwrap_or_default()
}

/// The body for an event.
pub(crate) fn of_event(event: &StoredEvent) -> String {
    let payload = Payload {
        kind: &event.kind,
        timestamp: event.at,
        subject: Some(&event.subject),
        sequence: Some(event.position().to_string()),
        data: event.json(),
    };
    serde_json::to_string(&payload).unwrap_or_default()
}
