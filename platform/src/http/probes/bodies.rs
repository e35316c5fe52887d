//! The answers of probes.

use chrono::{DateTime, SecondsFormat, Utc};
use dotmac_supervision::{Board, NotReady, Readiness};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::http::workers::{Blocked, WORKERS_BLOCKED};

/// Whether the process makes progress.
#[derive(Serialize, ToSchema)]
pub(super) struct Health<'a> {
    /// `healthy` or `unhealthy`.
    #[schema(example = "healthy")]
    pub(super) status: &'static str,
    /// Name of the service.
    pub(super) name: &'a str,
    /// Version of the program.
    pub(super) version: &'a str,
    /// Revision of its source, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) revision: Option<&'static str>,
    /// When it was built (RFC 3339), if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) built: Option<&'static str>,
    /// `development`, `staging`, `production` or `test`.
    pub(super) environment: &'a str,
    /// Why it is unhealthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'static str>,
}

/// Whether the process can serve, and how each component is.
#[derive(Serialize, ToSchema)]
pub(super) struct Ready {
    /// `ready`, `degraded` or `not_ready`.
    #[schema(example = "ready")]
    status: &'static str,
    /// When not ready: `starting`, `component_down` or `draining`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Each component by its name, in the order of their start.
    #[serde(serialize_with = "as_object")]
    #[schema(value_type = BTreeMap<String, ComponentState>)]
    components: Vec<(&'static str, ComponentState)>,
}

/// How one component is.
#[derive(Serialize, ToSchema)]
pub(super) struct ComponentState {
    /// `waiting`, `starting`, `ready`, `degraded`, `unavailable`, `restarting`, `stopping`, `stopped` or
    /// `failed`.
    #[schema(example = "ready")]
    state: &'static str,
    /// Whether the process is not ready without it.
    required: bool,
    /// Since when it has been in this state (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<String>,
    /// How often it was restarted.
    #[serde(skip_serializing_if = "Option::is_none")]
    restarts: Option<u64>,
    /// Which of its lives this is, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    /// Why it is not simply ready, out of a closed set.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Where it takes from what it offers.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'static str>,
}

impl Ready {
    pub(super) fn of(board: &Board, readiness: Readiness, blocked: Blocked) -> Self {
        let components = board.components.iter().map(|component| {
            let since =
                DateTime::<Utc>::from(component.since).to_rfc3339_opts(SecondsFormat::Millis, true);
            let state = ComponentState {
                state: component.state.as_str(),
                required: component.required,
                since: Some(since),
                restarts: Some(component.restarts),
                generation: Some(component.generation),
                reason: component.reason.map(|reason| reason.as_str()),
                source: component.source,
            };
            (component.name, state)
        });
        Self {
            status: readiness.as_str(),
            reason: match readiness {
                Readiness::NotReady(why) => Some(why.as_str()),
                Readiness::Ready | Readiness::Degraded => None,
            },
            components: components.chain(http_component(blocked)).collect(),
        }
    }
}

pub(super) fn as_object<S: Serializer>(
    components: &[(&'static str, ComponentState)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(components.iter().map(|(name, state)| (name, state)))
}

/// The HTTP server among the components, while some of its workers make no progress.
pub(super) fn http_component(blocked: Blocked) -> Option<(&'static str, ComponentState)> {
    let component = ComponentState {
        state: blocked.state()?.as_str(),
        required: true,
        since: None,
        restarts: None,
        generation: None,
        reason: Some(WORKERS_BLOCKED.as_str()),
        source: None,
    };
    Some(("http", component))
}

/// The answer of `/ready` while the supervisor makes no progress.
pub(super) fn hung() -> Ready {
    let supervisor = ComponentState {
        state: "failed",
        required: true,
        since: None,
        restarts: None,
        generation: None,
        reason: Some("hung"),
        source: None,
    };
    Ready {
        status: "not_ready",
        reason: Some(NotReady::ComponentDown.as_str()),
        components: vec![("supervisor", supervisor)],
    }
}

/// Whether the process has been ready since it started.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "describes the two fixed bodies of `Probes::startup`"
)]
pub(super) struct Startup {
    /// `started` or `starting`.
    #[schema(example = "started")]
    status: &'static str,
}
