//! Acts on events and subscribers for the audit log.

use dotmac_platform::{
    audit::{AuditedAct, Entry},
    events::{EventId, RewindTo},
};

const PUBLISH: AuditedAct = AuditedAct::new(
    "event_publish",
    "A caller emitted an event of the tenant's own.",
);
const REWIND: AuditedAct = AuditedAct::new(
    "subscriber_rewind",
    "A subscriber was moved to another position of the event log.",
);
const RETRY: AuditedAct = AuditedAct::new(
    "subscriber_retry",
    "The parked events of a subscriber were retried.",
);

pub(crate) const ACTS: &[AuditedAct] = &[PUBLISH, REWIND, RETRY];

/// The entry of an event that a caller emits.
pub(crate) fn publish(id: EventId, kind: &str) -> Entry {
    Entry::new(PUBLISH.name(), "events.event", id.to_string()).detail("type", kind)
}

/// That of sending a subscriber back, or ahead.
pub(crate) fn rewind(name: &str, to: &RewindTo) -> Entry {
    let to = match to {
        RewindTo::Beginning => "beginning".to_owned(),
        RewindTo::Position(place) => place.to_string(),
        RewindTo::Time(time) => time.to_string(),
    };
    Entry::new(REWIND.name(), "events.subscriber", name).detail("to", to)
}

/// That of having a subscriber try its parked events again.
pub(crate) fn retry(name: &str) -> Entry {
    Entry::new(RETRY.name(), "events.subscriber", name)
}
