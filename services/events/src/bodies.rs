//! Bodies of requests and answers.

use dotmac_platform::{
    db::types::Moment,
    events::{EventType, SubscriberStatus, Subscription},
};
use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// Which events.
#[derive(Deserialize, IntoParams)]
pub(crate) struct Asked {
    /// Only events of this type, as `note.added.v1`; or of several, separated by commas.
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    /// Only events with this subject.
    pub(crate) subject: Option<String>,
    /// Only events behind this place: `sequence` of an event, or `next_cursor` of a page. Without it the list begins with
    /// the oldest event that is kept.
    pub(crate) after: Option<String>,
}

/// An event to be, of a type that the tenant makes up.
#[derive(Deserialize, Validate, ToSchema)]
pub(crate) struct NewEvent {
    /// Its type: `custom.`, lower-case words joined by `.`, and a version, as `custom.order.paid.v1`.
    #[serde(rename = "type")]
    #[garde(skip)]
    #[schema(pattern = r"^custom(\.[a-z][a-z0-9_]*)+\.v[1-9][0-9]*$")]
    pub(crate) kind: String,
    /// The subject. Subscribers handle events of one subject in their order. By default the type.
    #[garde(skip)]
    #[schema(min_length = 1, max_length = 512)]
    pub(crate) subject: Option<String>,
    /// Its data: any JSON, at most 65536 bytes.
    #[serde(default)]
    #[garde(skip)]
    pub(crate) data: Value,
}

/// Where to send a subscriber.
#[derive(Deserialize, Validate, ToSchema)]
pub(crate) struct Rewind {
    /// `beginning` for the oldest event that is kept; `sequence` of an event, to go on behind it; or a moment (RFC 3339),
    /// to go on with the first event from then on.
    #[garde(skip)]
    pub(crate) to: String,
}

/// A type of events.
#[derive(Serialize, ToSchema)]
pub(crate) struct TypeBody {
    /// Its name: `note.added.v1`.
    #[serde(rename = "type")]
    kind: String,
    /// The module that emits it.
    module: String,
    /// The type of the event.
    description: Option<String>,
    /// The JSON Schema of its data.
    schema: Value,
}

impl From<&EventType> for TypeBody {
    fn from(it: &EventType) -> Self {
        Self {
            kind: it.kind().to_owned(),
            module: it.module().to_owned(),
            description: it.description(),
            schema: it.schema(),
        }
    }
}

/// A subscriber, as its rows in the database show it: the same on every instance.
#[derive(Serialize, ToSchema)]
pub(crate) struct SubscriberBody {
    /// Its name: that of its worker.
    name: String,
    /// The module whose worker it is; `null` for one that this program does not have.
    module: Option<String>,
    /// The types of events that it handles; `null` for one that this program does not have; empty for all.
    types: Option<Vec<String>>,
    /// `running`; `failing` at an event that it tries again; `parked` if it has given up on one; `held_back` by an open
    /// transaction; `expired` if events are gone that it had not handled; `ahead` of the database, which was restored into
    /// another cluster.
    state: String,
    /// `sequence` of the last event that it has handled or passed over.
    sequence: String,
    /// When it last moved.
    moved_at: Moment,
    /// Events of any type that it has not passed, counted up to 10,000.
    lag_events: i64,
    /// The age of the oldest of them, in seconds.
    lag_seconds: i64,
    /// Events at which it failed, and those behind them that wait, the parked ones included.
    held: i64,
    /// Events that it does not try again until it is asked to.
    parked: i64,
    /// The first event at which it failed, if it has not got over it.
    failed: Option<FailedBody>,
    /// The cause of its lag: `held back by transaction 8123 of pid 99 since 14 s`.
    cause: Option<String>,
}

/// An event at which a subscriber failed.
#[derive(Serialize, ToSchema)]
#[schema(as = FailedEvent)]
pub(crate) struct FailedBody {
    /// `sequence` of the event.
    sequence: String,
    /// How often it failed.
    failures: i32,
    /// The last error.
    error: String,
}

impl SubscriberBody {
    pub(crate) fn new(status: SubscriberStatus, subscriptions: &[Subscription]) -> Self {
        let known = subscriptions.iter().find(|it| it.name == status.name);
        let types = |it: &Subscription| it.kinds.iter().map(|kind| (*kind).to_owned()).collect();
        Self {
            module: known.map(|it| it.module.to_owned()),
            types: known.map(types),
            state: status.state.as_str().to_owned(),
            sequence: status.position.to_string(),
            moved_at: status.moved_at,
            lag_events: status.lag_events,
            lag_seconds: status.lag_seconds,
            held: status.held,
            parked: status.parked,
            failed: status.failed.map(|it| FailedBody {
                sequence: it.sequence.to_string(),
                failures: it.failures,
                error: it.error,
            }),
            cause: status.held_by,
            name: status.name,
        }
    }
}
