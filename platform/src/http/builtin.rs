//! `/` and `/metrics`.

use actix_web::{
    HttpRequest, HttpResponse, get,
    http::header::{self, Accept, Header, Quality},
    web::{Bytes, Data},
};
use dotmac_telemetry::TextFormat;
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use super::{Config, Problem, Surface, config::Scrape};

/// The body of `/`, made once.
pub(super) struct Index(Bytes);

/// Name, version and links.
#[derive(Serialize, ToSchema)]
struct IndexBody<'a> {
    /// Name of the application.
    name: &'a str,
    /// Its version.
    version: &'a str,
    /// Revision of its source, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<&'static str>,
    /// When it was built (RFC 3339), if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    built: Option<&'static str>,
    /// Paths by what is there.
    links: Links,
}

/// Where to go from here.
#[derive(Serialize, ToSchema)]
struct Links {
    health: &'static str,
    ready: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    startup: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    openapi: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asyncapi: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    docs: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redoc: Option<&'static str>,
}

impl Index {
    pub(super) fn new(config: &Config) -> Self {
        let operated = config.surface != Surface::Api;
        let documented = |path| config.docs_enabled.then_some(path);
        let body = IndexBody {
            name: &config.app_name,
            version: &config.version,
            revision: config.build.revision,
            built: config.build.time,
            links: Links {
                health: "/health",
                ready: "/ready",
                startup: operated.then_some("/health/startup"),
                metrics: operated.then_some("/metrics"),
                openapi: documented("/openapi.json"),
                asyncapi: documented("/asyncapi.json")
                    .filter(|_| config.surface != Surface::Management),
                docs: documented("/docs"),
                redoc: documented("/redoc"),
            },
        };
        Self(serde_json::to_vec(&body).unwrap_or_default().into())
    }
}

/// Mounts both; they need [`Data<Index>`] and [`Data<Scrape>`].
pub(super) fn routes(app: &mut ServiceConfig<'_>, surface: Surface) {
    app.service(index);
    if surface != Surface::Api {
        app.service(metrics);
    }
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
    summary = "Metrics in the Prometheus text format, or as OpenMetrics with exemplars if asked for",
    responses(
        (status = 200, description = "All metrics.", body = String, content_type = "text/plain"),
        (status = 503, description = "They cannot be rendered now.", body = super::problem::ProblemBody<'static>, content_type = "application/problem+json")
    )
)]
#[get("/metrics")]
async fn metrics(request: HttpRequest, scrape: Data<Scrape>) -> Result<HttpResponse, Problem> {
    let format = wanted(&request);
    let text = scrape(format).map_err(|error| {
        Problem::unavailable("the metrics cannot be rendered now", Duration::from_secs(1))
            .code("metrics_unavailable")
            .caused_by(error)
    })?;
    Ok(HttpResponse::Ok()
        .content_type(format.content_type())
        .insert_header((header::VARY, "Accept"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(text))
}

/// The format that the client likes best; the Prometheus text format where it does not say.
fn wanted(request: &HttpRequest) -> TextFormat {
    let Ok(Accept(ranges)) = Accept::parse(request) else {
        return TextFormat::Prometheus;
    };
    let liking = |kind: &str| {
        let named = ranges
            .iter()
            .filter(|range| range.item.essence_str() == kind);
        named
            .map(|range| range.quality)
            .max()
            .unwrap_or(Quality::ZERO)
    };
    let open = liking("application/openmetrics-text");
    if open > Quality::ZERO && open >= liking("text/plain") {
        TextFormat::OpenMetrics
    } else {
        TextFormat::Prometheus
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn the_format_is_the_one_that_is_asked_for() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, format) in [
            (prometheus, TextFormat::OpenMetrics),
            ("application/openmetrics-text", TextFormat::OpenMetrics),
            (
                "text/plain, application/openmetrics-text;q=0.5",
                TextFormat::Prometheus,
            ),
            ("application/openmetrics-text;q=0", TextFormat::Prometheus),
            ("*/*", TextFormat::Prometheus),
            ("nonsense", TextFormat::Prometheus),
        ] {
            let request = TestRequest::get().insert_header(("accept", accept));
            assert_eq!(wanted(&request.to_http_request()), format, "{accept}");
        }
        assert_eq!(
            wanted(&TestRequest::get().to_http_request()),
            TextFormat::Prometheus
        );
    }
}
