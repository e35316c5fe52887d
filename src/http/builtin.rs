//! `/` and `/metrics`.

use actix_web::{
    HttpResponse, get,
    http::header,
    web::{Bytes, Data},
};
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use super::{Config, Problem, config::Scrape};

/// Version 0.0.4 is the number of the Prometheus text format itself.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The body of `/`, made once.
pub(super) struct Index(Bytes);

/// What this is and where to go from here.
#[derive(Serialize, ToSchema)]
struct IndexBody<'a> {
    /// Name of the application.
    name: &'a str,
    /// Its version.
    version: &'a str,
    /// Paths by what is there.
    links: Links,
}

/// Where to go from here.
#[derive(Serialize, ToSchema)]
struct Links {
    health: &'static str,
    ready: &'static str,
    startup: &'static str,
    metrics: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    openapi: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    docs: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redoc: Option<&'static str>,
}

impl Index {
    pub(super) fn new(config: &Config) -> Self {
        let documented = |path| config.docs_enabled.then_some(path);
        let body = IndexBody {
            name: &config.app_name,
            version: &config.version,
            links: Links {
                health: "/health",
                ready: "/ready",
                startup: "/health/startup",
                metrics: "/metrics",
                openapi: documented("/openapi.json"),
                docs: documented("/docs"),
                redoc: documented("/redoc"),
            },
        };
        Self(serde_json::to_vec(&body).unwrap_or_default().into())
    }
}

/// Mounts both; they need [`Data<Index>`] and [`Data<Scrape>`].
pub(super) fn routes(app: &mut ServiceConfig<'_>) {
    app.service(index).service(metrics);
}

#[utoipa::path(
    tag = "about",
    summary = "What this is, and links",
    responses((status = 200, description = "Name, version, links.", body = IndexBody<'static>))
)]
#[get("/")]
async fn index(index: Data<Index>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(header::ContentType::json())
        .body(index.0.clone())
}

#[utoipa::path(
    tag = "about",
    summary = "Metrics in Prometheus text format",
    responses(
        (status = 200, description = "All metrics.", body = String, content_type = "text/plain"),
        (status = 503, description = "They cannot be rendered now.", body = super::problem::ProblemBody<'static>, content_type = "application/problem+json")
    )
)]
#[get("/metrics")]
async fn metrics(scrape: Data<Scrape>) -> Result<HttpResponse, Problem> {
    let text = scrape().map_err(|error| {
        Problem::unavailable("the metrics cannot be rendered now", Duration::from_secs(1))
            .code("metrics_unavailable")
            .caused_by(error)
    })?;
    Ok(HttpResponse::Ok()
        .content_type(PROMETHEUS_TEXT)
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(text))
}
