//! From start to stop.

mod notify;
mod reload;
mod signals;
mod stop;

use std::{error::Error, io};

use actix_web::{dev::ServerHandle, rt::task::JoinHandle};
use dotmac_actors::{
    supervision::{Escalation, SupervisorHandle, install_panic_hook},
    telemetry::{self, Telemetry},
};
use tokio::sync::mpsc;
use tracing::{error, info};

use self::{reload::Reload, signals::Asked, stop::Stop};
use crate::{
    Exit, components, http, metrics,
    platform::{Assembly, Registration},
    settings::Settings,
};

/// Why a running platform stops.
enum Reason {
    Asked(&'static str),
    Escalated(Escalation),
    ServerEnded(String),
}

/// Runs a platform: this is the whole life of the process.
pub(crate) async fn run(settings: Settings, registrations: Vec<Registration>) -> Exit {
    match Running::start(settings, registrations).await {
        Ok(mut running) => {
            let reason = running.until_stop().await;
            running.stop(&reason).await
        }
        Err(refusal) => refusal.tell(),
    }
}

/// A platform that answers its probes, and whose components are on their way.
struct Running {
    settings: Settings,
    telemetry: Telemetry,
    signals: mpsc::Receiver<Asked>,
    supervisor: SupervisorHandle,
    server: ServerHandle,
    serving: JoinHandle<io::Result<()>>,
    informing: JoinHandle<()>,
    reload: Reload,
}

impl Running {
    async fn start(settings: Settings, registrations: Vec<Registration>) -> Result<Self, Refusal> {
        // Logging from the first line on, panics included.
        let telemetry = telemetry::install(&components::telemetry(&settings))
            .map_err(refusal(Exit::Settings, "telemetry cannot be set up"))?;
        install_panic_hook();
        info!(
            version = crate::VERSION,
            environment = settings.app.environment.as_str(),
            pid = std::process::id(),
            "starting"
        );
        let signals =
            signals::listen().map_err(refusal(Exit::Unavailable, "signals cannot be received"))?;

        // The listeners come before the actors, so that probes are answered from the first moment.
        let config = components::http(&settings);
        let listeners =
            http::bind(&config).map_err(refusal(Exit::Unavailable, "the port cannot be opened"))?;
        let addresses = listeners.addresses().to_vec();

        // Secrets, database, telemetry, services: each when those that it needs are ready.
        let assembly = Assembly::new(&settings, &telemetry, registrations).map_err(refusal(
            Exit::Settings,
            "the components cannot be put together",
        ))?;
        let supervisor = assembly.tree.start();
        metrics::observe(&supervisor);

        let parts = http::Parts {
            routes: assembly.routes,
            ..http::Parts::new(supervisor.clone(), components::scrape(&telemetry))
        };
        let scheme = if config.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let running = match http::serve(listeners, config, parts) {
            Ok(running) => running,
            Err(error) => {
                supervisor.halt().await;
                return Err(refusal(Exit::Settings, "the HTTP server cannot be set up")(
                    error,
                ));
            }
        };
        for address in addresses {
            info!(%address, "listening on {scheme}://{address}");
        }

        let reload = Reload {
            telemetry: telemetry.clone(),
            certificates: running.certificates,
            secrets: assembly.secrets,
            db: assembly.db,
            pool_size: assembly.pool_size,
        };
        Ok(Self {
            signals,
            server: running.handle,
            serving: actix_web::rt::spawn(running.server),
            informing: actix_web::rt::spawn(notify::keep_informed(supervisor.clone())),
            reload,
            supervisor,
            telemetry,
            settings,
        })
    }

    /// Serves reloads until there is a reason to stop.
    async fn until_stop(&mut self) -> Reason {
        loop {
            tokio::select! {
                Some(ask) = self.signals.recv() => match ask {
                    Asked::Stop(signal) => return Reason::Asked(signal),
                    Asked::Reload => self.reload.run(&mut self.settings).await,
                },
                escalation = self.supervisor.escalated() => return Reason::Escalated(escalation),
                ended = &mut self.serving => return Reason::ServerEnded(format!("{ended:?}")),
            }
        }
    }

    /// Readiness first, then requests, then the actors from right to left, telemetry last.
    async fn stop(self, reason: &Reason) -> Exit {
        let (exit, why, drain) = verdict(reason);
        let stop = Stop {
            settings: &self.settings,
            server: &self.server,
            supervisor: &self.supervisor,
            telemetry: &self.telemetry,
        };
        stop.run(&why, drain).await;
        self.informing.abort();
        exit
    }
}

/// The exit code, the words for the log, and whether load balancers are given time.
fn verdict(reason: &Reason) -> (Exit, String, bool) {
    match reason {
        Reason::Asked(signal) => (Exit::Success, (*signal).to_owned(), true),
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
    /// Tells the log, or standard error where there is no log yet.
    fn tell(&self) -> Exit {
        let error = &*self.source;
        if tracing::enabled!(tracing::Level::ERROR) {
            error!(error, exit_code = self.exit.code(), "{}", self.what);
        } else {
            eprintln!("{}: {}", self.what, crate::cli::chain(error));
        }
        self.exit
    }
}
