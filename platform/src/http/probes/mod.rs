//! `/health`, `/ready`, `/health/startup` and their aliases: the truth about the process, from a snapshot.
//!
//! No actor is asked and no lock is held, so they answer in constant time while everything else
//! hangs. The body of `/ready` is rendered once for each new board. The envelope answers these paths
//! before routing ([`Probe::of`]); the handlers here serve an application without an envelope, and describe the probes
//! in the OpenAPI document.

mod bodies;
mod routes;

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
    web::{Bytes, Data},
};
use arc_swap::ArcSwapOption;
use dotmac_supervision::Readiness;
use serde::Serialize;

use self::bodies::{Health, Ready, hung};
pub(super) use self::routes::routes;
use super::{
    Config, Problem, Surface, Workers,
    config::{ProcessState, is_draining},
    problem::retry_after_seconds,
    workers::{Blocked, WORKERS_BLOCKED},
};

/// `Retry-After` of a failed probe: an orchestrator uses its own period.
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
    vitals: Arc<dyn ProcessState>,
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
    pub(super) fn new(config: &Config, vitals: Arc<dyn ProcessState>, workers: Workers) -> Self {
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

    /// The source of the probes' answers.
    pub(super) fn vitals(&self) -> Arc<dyn ProcessState> {
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
pub(crate) fn vitals(request: &HttpRequest) -> Result<Arc<dyn ProcessState>, Problem> {
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
