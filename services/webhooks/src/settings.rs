//! The keys of webhooks.

use std::time::Duration;

use dotmac_platform::{
    delivery::{Ladder, LaneRules},
    settings::{Rules, between, fixed, lasting},
};

dotmac_platform::settings! {
    title: "Webhooks", prefix: "WEBHOOKS_", rules: WebhooksSettings::rules;
    /// Sends events to the endpoints of tenants, signed and with retries.
    pub struct WebhooksSettings {
        /// Endpoints that a tenant may have.
        max_endpoints: u32 { default: fixed("50"), range: between::<u32>("1", "1000") }

        /// Deliveries that may wait for one endpoint. Further ones fail at once, and can be recovered.
        max_waiting: u32 { default: fixed("100000"), range: between::<u32>("1", "10000000") }

        /// Attempts that an instance makes at a time, to all endpoints.
        concurrency: usize { default: fixed("64"), range: between::<usize>("1", "1000") }

        /// Attempts that all instances make at a time to one endpoint. A slow endpoint gets fewer, down to one.
        per_endpoint: u32 { default: fixed("5"), range: between::<u32>("1", "100") }

        /// Longest time of an attempt, from the lookup of the name to the end of the answer; `DOTMAC_EGRESS_TIMEOUT` if that is shorter.
        timeout: Duration { default: fixed("15s"), range: lasting("5s", "30s") }

        /// Delays after failed attempts, one after another, each lengthened by up to a tenth. After the last one a
        /// delivery has failed.
        retries: Vec<Duration> { default: fixed("5s,5m,30m,2h,5h,10h,14h,20h,24h") }

        /// After an attempt longer than this the endpoint gets fewer at a time.
        slow: Duration { default: fixed("2s"), range: lasting("10ms", "30s") }

        /// Failures in a row after which an endpoint is held, and probed by one attempt at a time.
        breaker_failures: u32 { default: fixed("10"), range: between::<u32>("1", "1000") }

        /// How long it is held before the first probe; doubled with each probe that fails, up to an hour.
        breaker_hold: Duration { default: fixed("30s"), range: lasting("100ms", "1h") }

        /// An endpoint that has failed for this time, without one success, is disabled.
        disable_after: Duration { default: fixed("5d"), range: lasting("1s", "30d") }

        /// How long a former secret also signs after a rotation, unless the request sets another time.
        rotation_overlap: Duration { default: fixed("24h"), range: lasting("0s", "7d") }

        /// How long deliveries and their attempts are kept.
        retention: Duration { default: fixed("30d"), range: lasting("4d", "400d") }

        /// Interval of the measurement of waiting deliveries, for metrics and `dotmac why`.
        status_interval: Duration { default: fixed("10s"), range: lasting("100ms", "10m") }
    }
}

/// The most waits between attempts.
const MOST_RETRIES: usize = 20;

/// The longest wait between attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(48 * 3600);

impl WebhooksSettings {
    fn rules(&self, rules: &mut Rules<'_>) {
        rules.refuse(
            self.retries.is_empty() || self.retries.len() > MOST_RETRIES,
            &["retries"],
            "it needs 1 to 20 waits",
            "list waits, as `5s,5m,30m`",
        );
        rules.refuse(
            self.retries
                .iter()
                .any(|it| *it > LONGEST_WAIT || it.is_zero()),
            &["retries"],
            "each wait is more than nothing and at most 48 hours",
            "list waits, as `5s,5m,30m`",
        );
    }

    /// The waits after failed attempts.
    pub(crate) fn ladder(&self) -> Ladder {
        Ladder::new(self.retries.clone())
    }

    /// How the lanes of endpoints are treated.
    pub(crate) fn lanes(&self) -> LaneRules {
        LaneRules {
            most: self.per_endpoint,
            slow: self.slow,
            failures: self.breaker_failures,
            hold: self.breaker_hold,
            give_up: self.disable_after,
            ..LaneRules::DEFAULT
        }
    }
}

#[cfg(test)]
mod tests {
    use dotmac_platform::{delivery::Ladder, settings::docs};

    use super::WebhooksSettings;

    #[test]
    fn the_readme_has_every_key() {
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        docs::assert_documented::<WebhooksSettings>("webhooks", readme);
    }

    #[test]
    fn the_ladder_is_that_of_the_contract_unless_it_is_set() {
        let steps = "5s,5m,30m,2h,5h,10h,14h,20h,24h";
        let steps = steps.split(',').map(humantime::parse_duration);
        let steps: Result<Vec<_>, _> = steps.collect();
        assert_eq!(steps.map(Ladder::new), Ok(Ladder::WEBHOOKS));
    }
}
