//! The paths of the probes, and their description in the OpenAPI document.

use actix_web::{HttpResponse, get, web::Data};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    Probe, Probes,
    bodies::{Health, Ready, Startup},
};
use crate::http::Surface;

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
pub(crate) fn routes(app: &mut ServiceConfig<'_>, surface: Surface) {
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
