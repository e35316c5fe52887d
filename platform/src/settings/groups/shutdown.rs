//! How the daemon stops.

use std::time::Duration;

use crate::settings::types::Environment;
use crate::settings::{Facts, computed, fixed, lasting};

crate::settings! {
    title: "Shutdown", prefix: "SHUTDOWN_";
    /// How the daemon stops on SIGTERM or SIGINT.
    pub struct ShutdownSettings {
        /// How long requests are still served after `/ready` has turned 503, so that load balancers
        /// notice first. Must be shorter than `DOTMAC_SHUTDOWN_TIMEOUT`.
        drain_delay: Duration {
            default: computed("`0s` in development and test, `5s` elsewhere", drain_delay),
            range: lasting("0s", "10m"),
        }

        /// Longest time that the whole stop may take, drain delay included. Then the process exits
        /// with 75. Keep it shorter than the orchestrator's grace period.
        timeout: Duration { default: fixed("30s"), range: lasting("100ms", "1h") }
    }
}

fn drain_delay(facts: &Facts<'_>) -> String {
    let text = match facts.environment() {
        Environment::Development | Environment::Test => "0s",
        Environment::Staging | Environment::Production => "5s",
    };
    text.to_owned()
}
