//! From start to stop.

mod notify;
mod reload;
mod signals;
mod stop;

use std::error::Error;

use dotmac_actors::{
    supervision::{Escalation, SupervisorHandle, install_panic_hook},
    telemetry,
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
pub(crate) async fn run(mut settings: Settings, registrations: Vec<Registration>) -> Exit {
    // Logging from the first line on, panics included.
    let telemetry = match telemetry::install(&components::telemetry(&settings)) {
        Ok(telemetry) => telemetry,
        Err(error) => return refused(Exit::Settings, "telemetry cannot be set up", &error),
    };
    install_panic_hook();
    info!(
        version = crate::VERSION,
        environment = settings.app.environment.as_str(),
        pid = std::process::id(),
        "starting"
    );
    let mut asked = match signals::listen() {
        Ok(asked) => asked,
        Err(error) => return refused(Exit::Unavailable, "signals cannot be received", &error),
    };

    // The listeners come before the actors, so that probes are answered from the first moment.
    let listeners = match http::bind(&components::http(&settings)) {
        Ok(listeners) => listeners,
        Err(error) => return refused(Exit::Unavailable, "the port cannot be opened", &error),
    };
    let addresses = listeners.addresses().to_vec();
    let assembly = match Assembly::new(&settings, &telemetry, registrations) {
        Ok(assembly) => assembly,
        Err(error) => {
            return refused(
                Exit::Settings,
                "the components cannot be put together",
                &error,
            );
        }
    };

    // Secrets, database, telemetry, services: each when those that it needs are ready.
    let supervisor = assembly.tree.start();
    metrics::observe(&supervisor);
    let parts = http::Parts {
        routes: assembly.routes,
        ..http::Parts::new(supervisor.clone(), components::scrape(&telemetry))
    };
    let running = match http::serve(listeners, components::http(&settings), parts) {
        Ok(running) => running,
        Err(error) => return refused(Exit::Settings, "the HTTP server cannot be set up", &error),
    };
    for address in addresses {
        info!(%address, "listening on {}://{address}", if settings.app.tls_cert.is_some() { "https" } else { "http" });
    }
    let server = running.handle.clone();
    let mut serving = actix_web::rt::spawn(running.server);
    let informing = actix_web::rt::spawn(notify::keep_informed(supervisor.clone()));

    let reload = Reload {
        telemetry: telemetry.clone(),
        certificates: running.certificates,
        secrets: assembly.secrets,
    };
    let reason = tokio::select! {
        reason = until_stop(&mut asked, &supervisor, &reload, &mut settings) => reason,
        ended = &mut serving => Reason::ServerEnded(format!("{ended:?}")),
    };

    // Readiness first, then requests, then the actors from right to left, telemetry last.
    let (exit, why, drain) = verdict(&reason);
    Stop {
        settings: &settings,
        server: &server,
        supervisor: &supervisor,
        telemetry: &telemetry,
    }
    .run(&why, drain)
    .await;
    informing.abort();
    exit
}

/// Serves reloads until there is a reason to stop.
async fn until_stop(
    asked: &mut mpsc::Receiver<Asked>,
    supervisor: &SupervisorHandle,
    reload: &Reload,
    settings: &mut Settings,
) -> Reason {
    loop {
        tokio::select! {
            Some(ask) = asked.recv() => match ask {
                Asked::Stop(signal) => return Reason::Asked(signal),
                Asked::Reload => reload.run(settings).await,
            },
            escalation = supervisor.escalated() => return Reason::Escalated(escalation),
        }
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

/// One line for the log, one for a person at the terminal, and the exit code.
fn refused(exit: Exit, what: &str, error: &(dyn Error + 'static)) -> Exit {
    error!(error, exit_code = exit.code(), "{what}");
    exit
}
