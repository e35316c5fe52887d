//! How actors are watched and restarted.

use std::time::Duration;

use crate::settings::{between, fixed, lasting};

crate::settings! {
    title: "Supervision", prefix: "SUPERVISION_";
    /// How the actors (secrets, database, telemetry) are watched and restarted.
    pub struct SupervisionSettings {
        /// Faults of one actor within `DOTMAC_SUPERVISION_PERIOD` that lead to a restart. After one more the process
        /// exits with 70, and its orchestrator takes over.
        intensity: u32 { default: fixed("5"), range: between::<u32>("0", "1000") }

        /// Time over which the faults of an actor are counted.
        period: Duration { default: fixed("60s"), range: lasting("1s", "24h") }

        /// Wait before the first restart of an actor. It doubles with each further one.
        backoff_min: Duration { default: fixed("100ms"), range: lasting("0s", "10m") }

        /// Longest wait before a restart.
        backoff_max: Duration { default: fixed("10s"), range: lasting("0s", "1h") }

        /// How often an actor shows that it makes progress.
        heartbeat: Duration { default: fixed("1s"), range: lasting("10ms", "1m") }

        /// An actor without progress for this time counts as hung and is replaced. Must be at
        /// least twice `DOTMAC_SUPERVISION_HEARTBEAT`.
        hang_after: Duration { default: fixed("5s"), range: lasting("20ms", "10m") }

        /// Longest time that an actor may take to start.
        start_timeout: Duration { default: fixed("30s"), range: lasting("10ms", "1h") }

        /// Longest time that an actor may take to stop. Then its thread is abandoned.
        stop_timeout: Duration { default: fixed("5s"), range: lasting("10ms", "10m") }

        /// Longest time that a call to an actor may take. Then the caller is answered with 503.
        call_timeout: Duration { default: fixed("2s"), range: lasting("1ms", "10m") }

        /// Tolerated number of abandoned threads. After one more the process exits with 70.
        max_leaked_threads: usize { default: fixed("3"), range: between::<usize>("0", "1000") }
    }
}
