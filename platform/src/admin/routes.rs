//! The routes.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use actix_web::{
    HttpRequest, HttpResponse, get, post, put,
    web::{Data, Json, ServiceConfig},
};
use chrono::{DateTime, SecondsFormat, Utc};
use dotmac_db::module_loads;
use dotmac_supervision::{Component, Readiness, State, Vitals, WorkerVitals};
use dotmac_telemetry::{LevelChange, Telemetry};
use tracing::info;

use super::{
    AdminContext,
    messages::{
        ComponentStatus, ConnectionShare, LastError, LogLevel, ModuleStatus, RequestShare, Restart,
        SetLogLevel, Status, WorkerStatus,
    },
    record::record,
    socket::Peer,
};
use crate::{
    audit::operators::{DRAIN, LOG_LEVEL, RESTART, UNDRAIN},
    http::{Problem, WORKERS_BLOCKED},
};

/// Longest time that a log level may be changed for.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

pub(super) fn all(app: &mut ServiceConfig) {
    app.service(status)
        .service(set_log_level)
        .service(restart)
        .service(drain)
        .service(undrain);
}

#[get("/status")]
async fn status(context: Data<AdminContext>) -> Json<Status> {
    let (supervisor, telemetry) = (&context.supervisor, &context.telemetry);
    let board = supervisor.board();
    let blocked = context.workers.are_blocked();
    let readiness = blocked.readiness(board.readiness);
    let vitals: BTreeMap<_, _> = supervisor
        .vitals()
        .map(|vitals| (vitals.name, vitals))
        .collect();
    let components = board.components.iter();
    Json(Status {
        program: context.about.name.to_owned(),
        version: context.about.version.to_owned(),
        pid: std::process::id(),
        status: readiness.as_str().to_owned(),
        reason: match readiness {
            Readiness::NotReady(reason) => Some(reason.as_str().to_owned()),
            Readiness::Ready | Readiness::Degraded => None,
        },
        alive: supervisor.is_alive(),
        log_level: telemetry.log_filter(),
        leaked_threads: board.leaked_threads,
        components: components
            .map(|component| shown(component, vitals.get(component.name), telemetry))
            .chain(blocked.state().map(|state| http(state, &context)))
            .collect(),
        modules: modules(&context),
        modules_off: context
            .modules_off
            .iter()
            .map(|it| (*it).to_owned())
            .collect(),
    })
}

/// Every module that takes requests or works on the database.
fn modules(context: &AdminContext) -> Vec<ModuleStatus> {
    let mut modules = BTreeMap::<&str, ModuleStatus>::new();
    for load in context.requests.iter().map(|module| module.load()) {
        modules.entry(load.module).or_default().requests = Some(RequestShare {
            under_way: load.under_way,
            max: load.most,
            refused: load.refused,
        });
    }
    for load in module_loads() {
        modules.entry(load.module).or_default().connections = Some(ConnectionShare {
            used: load.used,
            max: load.max,
            waiting: load.waiting,
        });
    }
    for explanation in &context.explanations {
        let module = modules.entry(explanation.module).or_default();
        module.explanations.extend(explanation.sentences());
    }
    let modules = modules.into_iter();
    modules
        .map(|(name, module)| ModuleStatus {
            name: name.to_owned(),
            ..module
        })
        .collect()
}

fn shown(component: &Component, vitals: Option<&Vitals>, telemetry: &Telemetry) -> ComponentStatus {
    let ends = vitals.into_iter().flat_map(|vitals| vitals.restarts);
    ComponentStatus {
        name: component.name.to_owned(),
        state: component.state.as_str().to_owned(),
        required: component.required,
        reason: component.reason.map(|reason| reason.as_str().to_owned()),
        source: component.source.map(str::to_owned),
        since: moment(component.since),
        generation: component.generation,
        restarts: component.restarts,
        ends: ends
            .filter(|(_, count)| *count > 0)
            .map(|(cause, count)| (cause.as_str().to_owned(), count))
            .collect(),
        calls_in_flight: vitals
            .map(|vitals| vitals.calls_in_flight)
            .unwrap_or_default(),
        heartbeat_age_ms: vitals.and_then(|vitals| vitals.heartbeat_age).map(millis),
        last_error: telemetry.last_error(component.name).map(|error| LastError {
            at: moment(error.at),
            text: error.text,
        }),
        worker: vitals.and_then(|vitals| vitals.worker.as_ref()).map(worker),
    }
}

/// The HTTP server, while workers make no progress.
fn http(state: State, context: &AdminContext) -> ComponentStatus {
    let blocked = context.workers.blocked();
    let longest = blocked.iter().map(|worker| worker.since).max();
    let numbers: Vec<_> = blocked.iter().map(|it| it.number.to_string()).collect();
    let since = SystemTime::now() - longest.unwrap_or_default();
    let text = format!(
        "handlers block {} of {} workers: number {}",
        blocked.len(),
        context.workers.count(),
        numbers.join(", ")
    );
    ComponentStatus {
        name: "http".to_owned(),
        state: state.as_str().to_owned(),
        required: true,
        reason: Some(WORKERS_BLOCKED.as_str().to_owned()),
        source: None,
        since: moment(since),
        generation: 1,
        restarts: 0,
        ends: BTreeMap::new(),
        calls_in_flight: 0,
        heartbeat_age_ms: longest.map(millis),
        last_error: Some(LastError {
            at: moment(SystemTime::now()),
            text,
        }),
        worker: None,
    }
}

fn worker(vitals: &WorkerVitals) -> WorkerStatus {
    WorkerStatus {
        runs: vitals.runs,
        last_success: vitals.last_success.map(moment),
        running_ms: vitals.running_for.map(millis),
        done: vitals.progress.map(|progress| progress.done),
        total: vitals.progress.and_then(|progress| progress.total),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn moment(at: SystemTime) -> String {
    DateTime::<Utc>::from(at).to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[put("/log-level")]
async fn set_log_level(
    request: HttpRequest,
    context: Data<AdminContext>,
    Json(wanted): Json<SetLogLevel>,
) -> Result<Json<LogLevel>, Problem> {
    let lasting = wanted.for_ms.map(Duration::from_millis);
    if lasting.is_some_and(|lasting| lasting.is_zero() || lasting > LONGEST) {
        return Err(Problem::bad_request("the time of a level is 1ms to 7d"));
    }
    let change = LevelChange {
        level: wanted.level,
        target: wanted.target,
        lasting,
    };
    let (former, for_ms) = (context.telemetry.log_filter(), wanted.for_ms);
    let level = context
        .telemetry
        .change_log_level(change)
        .map_err(|error| Problem::bad_request(dotmac_causes::chain(&error)))?;
    info!(by = %by(&request), former, for_ms, "the log level is now `{level}`");
    let about = ("log_level", Some(level.clone()));
    record(context.audit.as_ref(), LOG_LEVEL, about, by(&request)).await;
    Ok(Json(LogLevel { level }))
}

#[post("/restart")]
async fn restart(
    request: HttpRequest,
    context: Data<AdminContext>,
    Json(Restart { component }): Json<Restart>,
) -> Result<HttpResponse, Problem> {
    context.supervisor.restart(&component).map_err(|_| {
        let board = context.supervisor.board();
        let names = board.components.iter().map(|component| component.name);
        let names: Vec<&str> = names.collect();
        Problem::bad_request(format!(
            "there is no such component; the components are {}",
            names.join(", ")
        ))
    })?;
    info!(by = %by(&request), actor.name = component, "a restart of `{component}` was asked for");
    record(
        context.audit.as_ref(),
        RESTART,
        (component.as_str(), None),
        by(&request),
    )
    .await;
    Ok(HttpResponse::Accepted().finish())
}

#[post("/drain")]
async fn drain(request: HttpRequest, context: Data<AdminContext>) -> HttpResponse {
    context.supervisor.drain();
    info!(by = %by(&request), "readiness was turned off; requests are still served");
    record(
        context.audit.as_ref(),
        DRAIN,
        ("readiness", None),
        by(&request),
    )
    .await;
    HttpResponse::Accepted().finish()
}

#[post("/undrain")]
async fn undrain(request: HttpRequest, context: Data<AdminContext>) -> HttpResponse {
    context.supervisor.undrain();
    info!(by = %by(&request), "readiness is turned on again");
    record(
        context.audit.as_ref(),
        UNDRAIN,
        ("readiness", None),
        by(&request),
    )
    .await;
    HttpResponse::Accepted().finish()
}

fn by(request: &HttpRequest) -> String {
    request
        .conn_data::<Peer>()
        .map_or_else(|| "unknown".to_owned(), Peer::to_string)
}
