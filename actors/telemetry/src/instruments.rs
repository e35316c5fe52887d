//! Names of the platform's own instruments, as OpenTelemetry spells them.
//!
//! `/metrics` shows them in Prometheus spelling: dots become underscores, the unit is appended (`s`
//! as `_seconds`, `By` as `_bytes`), a counter ends in `_total`. `dotmac.actor.call.duration` with
//! unit `s` is `dotmac_actor_call_duration_seconds`. Labels take their values from closed sets.

/// Gauge: 1 while the process is ready, degraded included, else 0.
pub const READY: &str = "dotmac.ready";
/// Gauge with `component` and `state`: 1 for the state a component is in, 0 for the others.
pub const COMPONENT_STATE: &str = "dotmac.component.state";
/// Counter with `actor` and `cause`.
pub const ACTOR_RESTARTS: &str = "dotmac.actor.restarts";
/// Gauge with `actor`.
pub const ACTOR_CALLS_IN_FLIGHT: &str = "dotmac.actor.calls_in_flight";
/// Histogram with `actor`, unit `s`.
pub const ACTOR_CALL_DURATION: &str = "dotmac.actor.call.duration";
/// Gauge with `actor`, unit `s`.
pub const ACTOR_HEARTBEAT_AGE: &str = "dotmac.actor.heartbeat_age";
/// Gauge: threads given up as hung and still there.
pub const LEAKED_THREADS: &str = "dotmac.leaked_threads";
/// Gauge with `secret`, unit `s`.
pub const SECRET_LEASE_REMAINING: &str = "dotmac.secret.lease_remaining";
/// Counter with `secret` and `result`.
pub const SECRET_ROTATIONS: &str = "dotmac.secret.rotations";
/// Counter with `signal`: spans, metric points and log records that arrived at the collector.
pub const TELEMETRY_EXPORTED: &str = "dotmac.telemetry.exported";
/// Counter with `signal` and `reason`: those that did not.
pub const TELEMETRY_DROPPED: &str = "dotmac.telemetry.dropped";
/// Gauge with `signal`: spans and log records that wait for export.
pub const TELEMETRY_QUEUED: &str = "dotmac.telemetry.queued";
/// Gauge with `signal`, unit `s`: when an export last went well, in seconds since 1970; 0 for
/// never.
pub const TELEMETRY_LAST_SUCCESS: &str = "dotmac.telemetry.last_success";
/// Gauge, always 1, with `version` and what else identifies the build.
pub const BUILD_INFO: &str = "dotmac.build_info";

/// Bounds in seconds for HTTP requests. Source: OpenTelemetry semantic conventions,
/// `http.server.request.duration`.
const REQUEST_SECONDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// Bounds in seconds for database operations. Source: the same, `db.client.operation.duration`.
const DATABASE_SECONDS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

/// Bounds in seconds for actor calls, most of which take tens of microseconds.
const CALL_SECONDS: [f64; 12] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0,
];

/// The histogram bounds of an instrument measured in seconds.
pub(super) fn second_bounds(name: &str) -> &'static [f64] {
    if name.starts_with("db.") {
        &DATABASE_SECONDS
    } else if name.starts_with("dotmac.actor.") {
        &CALL_SECONDS
    } else {
        &REQUEST_SECONDS
    }
}
