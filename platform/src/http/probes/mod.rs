//! `/health`, `/ready`, `/health/startup` and their aliases: the truth about the process, from a snapshot.
//!
//! No actor is asked and no lock is held, so they answer in constant time while everything else
//! hangs. The body of `/ready` is rendered once for each new board. The envelope answers these paths
//! before routing ([`Probe::of`]); the handlers here serve whoever mounts them without an envelope,
//! and describe them in the OpenAPI document.

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse, get,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
    web::{Bytes, Data},
};
use arc_swap::ArcSwapOption;
use chrono::{DateTime, SecondsFormat, Utc};
use dotmac_supervision::{Board, NotReady, Readiness};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    Config, Problem, Surface, Workers,
    config::{Vitals, is_draining},
    problem::retry_after_seconds,
    workers::{Blocked, WORKERS_BLOCKED},
};

/// What a probe that failed suggests to wait: an orchestrator asks by its own period anyway.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// One of the three questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// Does the process make progress?
    Live,
    /// Can it serve?
    Ready,
    /// Has it ever been ready?
    Startup,
}

impl Probe {
    /// Which question a path asks, if any, where `surface` is served.
    pub(super) fn of(path: &str, surface: Surface) -> Option<Self> {
        match path {
            "/health" => Some(Self::Live),
            "/ready" => Some(Self::Ready),
            _ if surface == Surface::Api => None,
            "/health/live" | "/livez" => Some(Self::Live),
            "/health/ready" | "/readyz" => Some(Self::Ready),
            "/health/startup" | "/startupz" => Some(Self::Startup),
            _ => None,
        }
    }
}

/// Answers probes. One for the whole process.
pub(super) struct Probes {
    vitals: Arc<dyn Vitals>,
    workers: Workers,
    healthy: Bytes,
    unhealthy: Bytes,
    blocked: Bytes,
    hung: Bytes,
    ready: ArcSwapOption<Rendered>,
}

/// The body of `/ready` for one board.
struct Rendered {
    serial: u64,
    blocked: Blocked,
    status: StatusCode,
    body: Bytes,
}

impl Probes {
    pub(super) fn new(config: &Config, vitals: Arc<dyn Vitals>, workers: Workers) -> Self {
        let body = |status, reason| {
            json(&Health {
                status,
                name: &config.app_name,
                version: &config.version,
                revision: config.build.revision,
                built: config.build.time,
                environment: &config.environment,
                reason,
            })
        };
        Self {
            healthy: body("healthy", None),
            unhealthy: body("unhealthy", Some("hung")),
            blocked: body("unhealthy", Some(WORKERS_BLOCKED.as_str())),
            hung: json(&hung()),
            vitals,
            workers,
            ready: ArcSwapOption::empty(),
        }
    }

    /// The answer to a probe.
    pub(super) fn answer(&self, probe: Probe) -> HttpResponse {
        match probe {
            Probe::Live => self.live(),
            Probe::Ready => self.ready(),
            Probe::Startup => self.startup(),
        }
    }

    /// Whether connections should move on to another instance.
    pub(super) fn is_draining(&self) -> bool {
        is_draining(&self.vitals.board())
    }

    /// What the probes are told by.
    pub(super) fn vitals(&self) -> Arc<dyn Vitals> {
        Arc::clone(&self.vitals)
    }

    fn live(&self) -> HttpResponse {
        if !self.vitals.is_alive() {
            respond(StatusCode::SERVICE_UNAVAILABLE, self.unhealthy.clone())
        } else if self.workers.are_blocked() == Blocked::All {
            respond(StatusCode::SERVICE_UNAVAILABLE, self.blocked.clone())
        } else {
            respond(StatusCode::OK, self.healthy.clone())
        }
    }

    fn ready(&self) -> HttpResponse {
        // A supervisor that hangs leaves a board that is no longer true.
        if !self.vitals.is_alive() {
            return respond(StatusCode::SERVICE_UNAVAILABLE, self.hung.clone());
        }
        let board = self.vitals.board();
        let blocked = self.workers.are_blocked();
        if let Some(rendered) = &*self.ready.load()
            && (rendered.serial, rendered.blocked) == (board.serial, blocked)
        {
            return respond(rendered.status, rendered.body.clone());
        }
        let readiness = blocked.readiness(board.readiness);
        let body = json(&Ready::of(&board, readiness, blocked));
        let status = status_of(readiness);
        self.ready.store(Some(Arc::new(Rendered {
            serial: board.serial,
            blocked,
            status,
            body: body.clone(),
        })));
        respond(status, body)
    }

    fn startup(&self) -> HttpResponse {
        let (status, body) = if self.vitals.board().started {
            (
                StatusCode::OK,
                Bytes::from_static(br#"{"status":"started"}"#),
            )
        } else {
            (
                StatusCode::SERVICE_UNAVAILABLE,
                Bytes::from_static(br#"{"status":"starting"}"#),
            )
        };
        respond(status, body)
    }
}

/// How the process is, for handlers.
pub(crate) fn vitals(request: &HttpRequest) -> Result<Arc<dyn Vitals>, Problem> {
    let probes = request.app_data::<Data<Probes>>();
    let probes = probes.ok_or_else(|| Problem::internal("an application without probes"))?;
    Ok(probes.vitals())
}

fn respond(status: StatusCode, body: Bytes) -> HttpResponse {
    let mut response = HttpResponse::build(status);
    response.insert_header((
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    ));
    response.insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.insert_header((header::RETRY_AFTER, retry_after_seconds(RETRY_AFTER)));
    }
    response.body(body)
}

fn status_of(readiness: Readiness) -> StatusCode {
    match readiness {
        Readiness::Ready | Readiness::Degraded => StatusCode::OK,
        Readiness::NotReady(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn json(body: &impl Serialize) -> Bytes {
    // Strings, numbers and booleans only: serialising them cannot fail.
    serde_json::to_vec(body).unwrap_or_default().into()
}

/// Whether the process makes progress.
#[derive(Serialize, ToSchema)]
struct Health<'a> {
    /// `healthy` or `unhealthy`.
    #[schema(example = "healthy")]
    status: &'static str,
    /// Name of the service.
    name: &'a str,
    /// Version of the program.
    version: &'a str,
    /// Revision of its source, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<&'static str>,
    /// When it was built (RFC 3339), if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    built: Option<&'static str>,
    /// `development`, `staging`, `production` or `test`.
    environment: &'a str,
    /// Why it is unhealthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// Whether the process can serve, and how each component is.
#[derive(Serialize, ToSchema)]
struct Ready {
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
struct ComponentState {
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
    fn of(board: &Board, readiness: Readiness, blocked: Blocked) -> Self {
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

fn as_object<S: Serializer>(
    components: &[(&'static str, ComponentState)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(components.iter().map(|(name, state)| (name, state)))
}

/// The HTTP server among the components, while some of its workers make no progress.
fn http_component(blocked: Blocked) -> Option<(&'static str, ComponentState)> {
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

/// What `/ready` says while the supervisor makes no progress, so that nobody can say more.
fn hung() -> Ready {
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
struct Startup {
    /// `started` or `starting`.
    #[schema(example = "started")]
    status: &'static str,
}

/// A handler and its description for one path of a probe.
macro_rules! probe_route {
    ($name:ident, $path:tt, $probe:expr, $body:ty, $summary:literal, $ok:literal, $not:literal) => {
        #[utoipa::path(
            tag = "probes",
            summary = $summary,
            responses((status = 200, description = $ok, body = $body), (status = 503, description = $not, body = $body))
        )]
        #[get($path)]
        async fn $name(probes: Data<Probes>) -> HttpResponse {
            probes.answer($probe)
        }
    };
}

macro_rules! live_route {
    ($name:ident, $path:tt) => {
        probe_route!(
            $name,
            $path,
            Probe::Live,
            Health<'static>,
            "Does the process make progress?",
            "It does.",
            "It hangs."
        );
    };
}
live_route!(health, "/health");
live_route!(health_live, "/health/live");
live_route!(livez, "/livez");

macro_rules! ready_route {
    ($name:ident, $path:tt) => {
        probe_route!(
            $name,
            $path,
            Probe::Ready,
            Ready,
            "Can the process serve?",
            "It can, perhaps with a named handicap.",
            "It cannot, or is about to stop."
        );
    };
}
ready_route!(ready, "/ready");
ready_route!(health_ready, "/health/ready");
ready_route!(readyz, "/readyz");

macro_rules! startup_route {
    ($name:ident, $path:tt) => {
        probe_route!(
            $name,
            $path,
            Probe::Startup,
            Startup,
            "Has the process been ready once?",
            "It has.",
            "Not yet."
        );
    };
}
startup_route!(health_startup, "/health/startup");
startup_route!(startupz, "/startupz");

/// Mounts the probes of `surface`; they need [`Data<Probes>`].
pub(super) fn routes(app: &mut ServiceConfig<'_>, surface: Surface) {
    app.service(health).service(ready);
    if surface == Surface::Api {
        return;
    }
    app.service(health_live)
        .service(livez)
        .service(health_ready)
        .service(readyz)
        .service(health_startup)
        .service(startupz);
}
