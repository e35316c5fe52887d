//! From start to stop.

mod deadline;
mod files;
mod notify;
mod reload;
mod servers;
mod signals;
mod stop;

use std::{error::Error, io};

use actix_web::{dev::ServerHandle, rt::task::JoinHandle};
use dotmac_secrets::SecretFeed;
use dotmac_supervision::EXIT;
use dotmac_supervision::{Escalation, SupervisorHandle, install_panic_hook};
use dotmac_telemetry::{self as telemetry, Telemetry};
use tokio::sync::mpsc;
use tracing::{Instrument, error, info, info_span, warn};

use self::{
    deadline::Deadline,
    reload::Reload,
    servers::{Management, Ports, Servers},
    signals::StopRequest,
    stop::Stop,
};

pub(crate) use self::signals::Signals;
use crate::{
    Exit,
    about::About,
    admin::{Admin, AdminContext},
    components, http, memory, metrics,
    module::Assembly,
    program::Program,
    routing::observe_requests,
    settings::{self, Environment, Settings},
};

/// Why a running platform stops.
enum Reason {
    Asked(StopRequest),
    Escalated(Escalation),
    ServerEnded(String),
}

/// Runs a platform: this is the whole life of the process.
pub(crate) async fn run(
    settings: Settings,
    program: &Program,
    signals: io::Result<Signals>,
) -> Exit {
    // On the heap: it is as large as all that it sets up, and used once.
    match Box::pin(Running::start(settings, program, signals)).await {
        Ok(mut running) => {
            let reason = running.until_stop().await;
            running.stop(reason).await
        }
        Err(refusal) => refusal.report(),
    }
}

/// A platform that answers its probes, and whose components are on their way.
struct Running {
    settings: Settings,
    telemetry: Telemetry,
    stop: mpsc::Receiver<StopRequest>,
    supervisor: SupervisorHandle,
    server: ServerHandle,
    serving: JoinHandle<io::Result<()>>,
    informing: JoinHandle<()>,
    reloading: JoinHandle<()>,
    feed: SecretFeed,
    /// Open for as long as this value lives: until the very end.
    _operators: (Option<Management>, Option<Admin>),
}

impl Running {
    async fn start(
        settings: Settings,
        program: &Program,
        signals: io::Result<Signals>,
    ) -> Result<Self, Refusal> {
        // Logging from the first line on, panics included.
        let telemetry = telemetry::install(&components::telemetry(&settings, program.about))
            .map_err(refusal(Exit::Settings, "telemetry cannot be set up"))?;
        install_panic_hook();
        let signals = signals.map_err(refusal(Exit::Unavailable, "signals cannot be received"))?;
        signals.begin(settings.shutdown.timeout);
        if settings.app.environment == Environment::Production {
            // Elsewhere a core dump is worth more than the secrets that are in it.
            memory::keep_private().map_err(refusal(
                Exit::Unavailable,
                "core dumps cannot be switched off",
            ))?;
        }
        let startup = info_span!(parent: None, "startup");
        Self::begin(settings, program, signals, telemetry)
            .instrument(startup)
            .await
    }

    /// All of it is one trace, together with what the supervisor says of each component's start.
    async fn begin(
        settings: Settings,
        program: &Program,
        signals: Signals,
        telemetry: Telemetry,
    ) -> Result<Self, Refusal> {
        telemetry::watch_runtime("main");
        log_start(&settings, program.about);
        let assembly = assemble(&settings, program, &telemetry)?;
        let own_secrets = assembly.own_secrets().clone();

        // The ports come before the actors, so that probes are answered from the first moment.
        let ports = Ports::open(&settings, program.about, assembly.egress_descriptors())?;
        assembly.bound_requests(ports.max_connections());

        // Secrets, database, telemetry, services: each when those that it needs are ready.
        let supervisor = assembly.tree.start();
        metrics::observe(&supervisor);
        observe_requests(&assembly.requests);

        let parts = http::Parts {
            routes: assembly.routes,
            ..http::Parts::new(
                supervisor.clone(),
                components::scrape(&telemetry),
                http::Workers::new(settings.supervision.hang_after),
            )
        };
        let context = AdminContext {
            telemetry: telemetry.clone(),
            supervisor: supervisor.clone(),
            about: program.about,
            workers: parts.workers.clone(),
            requests: assembly.requests,
            modules_off: settings.modules_off().collect(),
            explanations: assembly.explanations,
            audit: assembly.admin_db,
        };
        let servers = match Servers::start(ports, parts, &settings, context) {
            Ok(servers) => servers,
            Err(refusal) => {
                supervisor.halt().await;
                return Err(refusal);
            }
        };
        let Servers {
            clients,
            connections,
            operators,
        } = servers;

        let reload = Reload {
            telemetry: telemetry.clone(),
            certificates: clients.certificates,
            secrets: assembly.secrets,
            own_secrets,
            db: assembly.db,
            pool_size: assembly.pool_size,
            connections,
            appliers: assembly.appliers,
        };
        let Signals {
            stop,
            reload: hangups,
            ..
        } = signals;
        let files = files::watch(settings.files());
        Ok(Self {
            stop,
            server: clients.handle,
            serving: actix_web::rt::spawn(clients.server),
            informing: actix_web::rt::spawn(notify::keep_informed(supervisor.clone())),
            reloading: actix_web::rt::spawn(reload.serve(settings.clone(), hangups, files)),
            feed: assembly.feed,
            _operators: operators,
            supervisor,
            telemetry,
            settings,
        })
    }

    /// Waits for a reason to stop.
    async fn until_stop(&mut self) -> Reason {
        tokio::select! {
            Some(request) = self.stop.recv() => Reason::Asked(request),
            escalation = self.supervisor.escalated() => Reason::Escalated(escalation),
            ended = &mut self.serving => Reason::ServerEnded(format!("{ended:?}")),
        }
    }

    /// Readiness first, then requests, then the actors from right to left, telemetry last.
    async fn stop(self, reason: Reason) -> Exit {
        // A reload under way is dropped, and no other begins.
        self.reloading.abort();
        let (exit, why, drain) = verdict(&reason);
        if let Reason::ServerEnded(_) | Reason::Escalated(Escalation::SupervisorLost) = reason {
            // The supervisor has logged other escalations.
            error!(target: EXIT, exit_code = exit.code(), "giving up: {why}");
        }
        self.feed.end();
        let stop = Stop {
            settings: &self.settings,
            server: &self.server,
            supervisor: &self.supervisor,
            telemetry: &self.telemetry,
            deadline: match reason {
                Reason::Asked(request) => request.deadline,
                _ => Deadline::set(self.settings.shutdown.timeout),
            },
        };
        stop.run(&why, drain).await;
        self.informing.abort();
        exit
    }
}

/// The first lines of the log: what starts, and what an operator should know of its settings.
fn log_start(settings: &Settings, about: About) {
    info!(
        version = about.version,
        program = about.name,
        environment = settings.app.environment.as_str(),
        pid = std::process::id(),
        "starting"
    );
    for module in settings.modules_off() {
        let key = settings::enabled_key(module);
        info!(module, key, "module `{module}` is switched off");
    }
    for name in settings.unread() {
        warn!(
            key = name,
            "`{name}` is set and has no effect; see docs/telemetry.md"
        );
    }
    for warning in settings.warnings() {
        warn!(key = warning.key, "{warning}");
    }
}

/// Everything that will run: so a mistake in a module is found before a port is open.
fn assemble(
    settings: &Settings,
    program: &Program,
    telemetry: &Telemetry,
) -> Result<Assembly, Refusal> {
    let _span = info_span!("set up components").entered();
    let serving = (telemetry, program.about);
    let authenticator = program.authenticator.clone();
    let assembly = Assembly::for_serving(settings, serving, &program.modules, authenticator);
    let what = "the components cannot be assembled";
    assembly.map_err(refusal(Exit::Settings, what))
}

/// The exit code, the words for the log, and whether load balancers are given time.
fn verdict(reason: &Reason) -> (Exit, String, bool) {
    match reason {
        Reason::Asked(request) => (Exit::Success, request.signal.to_owned(), true),
        Reason::Escalated(escalation @ Escalation::NotStarted { .. }) => {
            (Exit::Unavailable, escalation.to_string(), false)
        }
        Reason::Escalated(escalation) => (Exit::Escalation, escalation.to_string(), false),
        Reason::ServerEnded(how) => (
            Exit::Escalation,
            format!("the HTTP server ended: {how}"),
            false,
        ),
    }
}

/// Why a platform does not run.
struct Refusal {
    exit: Exit,
    what: &'static str,
    source: Box<dyn Error>,
}

fn refusal<E: Error + 'static>(exit: Exit, what: &'static str) -> impl FnOnce(E) -> Refusal {
    move |source| Refusal {
        exit,
        what,
        source: Box::new(source),
    }
}

impl Refusal {
    /// Logs it, or writes it to standard error where there is no log yet.
    fn report(&self) -> Exit {
        let error = &*self.source;
        if tracing::enabled!(target: EXIT, tracing::Level::ERROR) {
            error!(target: EXIT, error, exit_code = self.exit.code(), "{}", self.what);
        } else {
            eprintln!("{}: {}", self.what, dotmac_causes::chain(error));
        }
        self.exit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_the_process_has_its_exit_code() {
        let escalated = |escalation| verdict(&Reason::Escalated(escalation)).0;
        let (child, reason) = ("db", dotmac_supervision::Reason::HUNG);
        let (intensity, period) = (5, std::time::Duration::from_secs(60));
        let exhausted = Escalation::Intensity {
            child,
            reason,
            intensity,
            period,
        };
        assert_eq!(escalated(exhausted), Exit::Escalation);
        assert_eq!(
            escalated(Escalation::LeakedThreads { leaked: 4 }),
            Exit::Escalation
        );
        assert_eq!(escalated(Escalation::SupervisorLost), Exit::Escalation);
        let why = None;
        assert_eq!(
            escalated(Escalation::NotStarted { child, reason, why }),
            Exit::Unavailable
        );
    }
}
