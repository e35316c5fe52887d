//! The keys of the event log.

use std::time::Duration;

use dotmac_platform::settings::{fixed, lasting};

dotmac_platform::settings! {
    title: "Events", prefix: "EVENTS_";
    /// The event log, and its subscribers.
    pub struct EventsSettings {
        /// How long events are kept. A subscriber that has not reached them by then waits until it is rewound.
        retention: Duration { default: fixed("7d"), range: lasting("1h", "365d") }

        /// How often the lag of subscribers is measured, for metrics and `dotmac why`.
        status_interval: Duration { default: fixed("10s"), range: lasting("100ms", "10m") }
    }
}

#[cfg(test)]
mod tests {
    use dotmac_platform::settings::docs;

    use super::EventsSettings;

    #[test]
    fn the_readme_has_every_key() {
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        docs::assert_documented::<EventsSettings>("events", readme);
    }
}
