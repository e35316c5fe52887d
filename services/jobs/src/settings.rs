//! The keys of the queue of jobs.

use std::time::Duration;

use dotmac_platform::settings::{fixed, lasting};

dotmac_platform::settings! {
    title: "Jobs", prefix: "JOBS_";
    /// Jobs, their queues and schedules.
    pub struct JobsSettings {
        /// How long completed and cancelled jobs are kept.
        completed_retention: Duration { default: fixed("24h"), range: lasting("1m", "365d") }

        /// How long failed and parked jobs are kept.
        failed_retention: Duration { default: fixed("30d"), range: lasting("1m", "365d") }

        /// How often the queues are measured, for metrics and `dotmac why`.
        status_interval: Duration { default: fixed("5s"), range: lasting("100ms", "10m") }
    }
}

#[cfg(test)]
mod tests {
    use dotmac_platform::settings::docs;

    use super::JobsSettings;

    #[test]
    fn the_readme_has_every_key() {
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        docs::assert_documented::<JobsSettings>("jobs", readme);
    }
}
