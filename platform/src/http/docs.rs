//! `/openapi.json`, two pages that show it - `/docs` (Swagger UI) and `/redoc` (Redoc) - and `/asyncapi.json`.
//!
//! Everything comes from memory; no page loads anything from another host, which its
//! content security policy enforces. The big scripts are cut out of their crates and compressed on
//! first use, so that a process without requests for documentation does not hold them.

use std::{
    borrow::Cow,
    sync::{Arc, LazyLock, OnceLock},
};

use actix_web::{
    HttpRequest, HttpResponse, get,
    http::header::{self, HeaderValue},
    web::{self, Bytes, Data, Path},
};
use utoipa::openapi::OpenApi;
use utoipa_actix_web::service_config::ServiceConfig;

use super::{Config, Problem, Surface, compression::Asset};

/// Scripts of our own, and what Swagger UI needs besides: inline styles, images as data.
const SWAGGER_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// As above; Redoc searches in a worker that it makes from its own script.
const REDOC_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; worker-src blob:; style-src 'unsafe-inline'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

const SWAGGER_PAGE: &str = r##"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="stylesheet" href="/docs/index.css">
<link rel="icon" type="image/png" href="/docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/swagger-ui-standalone-preset.js"></script>
<script src="/docs/swagger-initializer.js"></script>
</body>
</html>
"##;

const REDOC_PAGE: &str = r##"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>API</title>
<link rel="icon" href="data:,">
</head>
<body>
<div id="redoc"></div>
<script src="/redoc/redoc.js"></script>
<script src="/redoc/start.js"></script>
</body>
</html>
"##;

const REDOC_START: &str = "Redoc.init('/openapi.json', {}, document.getElementById('redoc'));\n";

/// The badge that Redoc would load from its makers' host, and what is shown in its place.
const REDOC_BADGE: &str = "https://cdn.redoc.ly/redoc/logo-mini.svg";
const NO_IMAGE: &str =
    "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7";

/// The OpenAPI document as sent; made when it is first asked for, since that takes longer and more memory than the rest of a
/// start.
pub(super) struct Document(LazyLock<Asset, Box<dyn FnOnce() -> Asset + Send>>);

impl Document {
    pub(super) fn new(make: impl FnOnce() -> OpenApi + Send + 'static) -> Self {
        let make = move || Asset::new(serde_json::to_vec(&make()).unwrap_or_default());
        Self(LazyLock::new(Box::new(make)))
    }
}

/// The AsyncAPI document of a program, made when someone asks for it. Clones are the same.
#[derive(Clone)]
pub(crate) struct EventsDocument {
    make: Arc<MakeDocument>,
    made: Arc<OnceLock<Asset>>,
}

/// Makes a document from the program's name and version.
type MakeDocument = dyn Fn(&str, &str) -> serde_json::Value + Send + Sync;

impl EventsDocument {
    /// `make` gets the program's name and version.
    pub(crate) fn new(
        make: impl Fn(&str, &str) -> serde_json::Value + Send + Sync + 'static,
    ) -> Self {
        Self {
            make: Arc::new(make),
            made: Arc::default(),
        }
    }

    fn get(&self, title: &Title) -> &Asset {
        let make = || Asset::new((self.make)(&title.name, &title.version).to_string());
        self.made.get_or_init(make)
    }
}

/// The program's name and version, as its documents have them.
pub(super) struct Title {
    name: String,
    version: String,
}

impl Title {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            name: config.app_name.clone(),
            version: config.version.clone(),
        }
    }
}

/// The paths below the pages, which are in no document.
pub(super) const FILES: [&str; 5] = [
    "/docs/",
    "/docs/{file}",
    "/redoc/",
    "/redoc/redoc.js",
    "/redoc/start.js",
];

/// Mounts the documents and both pages; they need [`Data<Document>`] and [`Data<Title>`].
pub(super) fn routes(app: &mut ServiceConfig<'_>, surface: Surface) {
    if surface != Surface::Management {
        app.service(asyncapi);
    }
    app.service(openapi)
        .service(swagger)
        .service(redoc)
        .map(|app| {
            app.route("/docs/", web::get().to(async || swagger_page()))
                .route("/docs/{file}", web::get().to(swagger_file))
                .route("/redoc/", web::get().to(async || redoc_page()))
                .route("/redoc/redoc.js", web::get().to(redoc_script))
                .route("/redoc/start.js", web::get().to(redoc_start))
        });
}

/// This document.
#[utoipa::path(
    tag = "documentation",
    summary = "The OpenAPI document of every mounted route",
    responses((status = 200, description = "OpenAPI 3.1.", body = serde_json::Value, content_type = "application/json"))
)]
#[get("/openapi.json")]
async fn openapi(request: HttpRequest, document: Data<Document>) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.content_type(header::ContentType::json());
    document.0.respond(&request, response).await
}

/// The types of events, from the same Rust types as the events. The access rule of both documents is the same.
#[utoipa::path(
    tag = "documentation",
    summary = "The AsyncAPI document of the events of every mounted module",
    responses((status = 200, description = "AsyncAPI 3.0.", body = serde_json::Value, content_type = "application/json"))
)]
#[get("/asyncapi.json")]
async fn asyncapi(request: HttpRequest, title: Data<Title>) -> Result<HttpResponse, Problem> {
    let document = request
        .app_data::<EventsDocument>()
        .ok_or_else(|| Problem::not_found("this program has no modules, and so no events"))?;
    let mut response = HttpResponse::Ok();
    response.content_type(header::ContentType::json());
    Ok(document.get(&title).respond(&request, response).await)
}

/// The document in Swagger UI.
#[utoipa::path(
    tag = "documentation",
    summary = "The API in Swagger UI",
    responses((status = 200, description = "A page without foreign parts.", body = String, content_type = "text/html"))
)]
#[get("/docs")]
async fn swagger() -> HttpResponse {
    swagger_page()
}

/// The document in Redoc.
#[utoipa::path(
    tag = "documentation",
    summary = "The API in Redoc",
    responses((status = 200, description = "A page without foreign parts.", body = String, content_type = "text/html"))
)]
#[get("/redoc")]
async fn redoc() -> HttpResponse {
    redoc_page()
}

fn swagger_page() -> HttpResponse {
    page(SWAGGER_PAGE, SWAGGER_POLICY)
}

fn redoc_page() -> HttpResponse {
    page(REDOC_PAGE, REDOC_POLICY)
}

fn page(html: &'static str, policy: HeaderValue) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(header::ContentType::html())
        .insert_header((header::CONTENT_SECURITY_POLICY, policy))
        .body(html)
}

/// A file that changes with the program only.
async fn file(asset: &Asset, kind: &str, request: &HttpRequest) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.content_type(kind).insert_header((
        header::CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=3600"),
    ));
    asset.respond(request, response).await
}

/// Swagger UI's settings: our document, and no validator badge, which would be loaded from its makers' host.
static SWAGGER: LazyLock<Arc<utoipa_swagger_ui::Config<'static>>> = LazyLock::new(|| {
    Arc::new(utoipa_swagger_ui::Config::from("/openapi.json").validator_url("none"))
});

/// The files of Swagger UI that its page loads. Its own pages know neither our paths nor our policy.
static SWAGGER_FILES: [SwaggerFile; 6] = [
    SwaggerFile::new("swagger-ui.css"),
    SwaggerFile::new("index.css"),
    SwaggerFile::new("favicon-32x32.png"),
    SwaggerFile::new("swagger-ui-bundle.js"),
    SwaggerFile::new("swagger-ui-standalone-preset.js"),
    SwaggerFile::new("swagger-initializer.js"),
];

/// One of them, read on first use.
struct SwaggerFile {
    name: &'static str,
    content: OnceLock<Content>,
}

/// Its kind and what is in it; or why its crate cannot give it.
type Content = Result<(String, Asset), String>;

impl SwaggerFile {
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            content: OnceLock::new(),
        }
    }

    fn content(&self) -> &Content {
        self.content.get_or_init(|| {
            let file = utoipa_swagger_ui::serve(self.name, Arc::clone(&SWAGGER))
                .map_err(|error| error.to_string())?
                .ok_or_else(|| format!("Swagger UI has no file {}", self.name))?;
            let bytes = match file.bytes {
                Cow::Borrowed(bytes) => Bytes::from_static(bytes),
                Cow::Owned(bytes) => bytes.into(),
            };
            Ok((file.content_type, Asset::new(bytes)))
        })
    }
}

async fn swagger_file(name: Path<String>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let known = SWAGGER_FILES.iter().find(|file| file.name == *name);
    let content = known.ok_or_else(|| Problem::not_found("Swagger UI has no such file"))?;
    match content.content() {
        Ok((kind, asset)) => Ok(file(asset, kind, &request).await),
        Err(error) => Err(Problem::internal(error.as_str())),
    }
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

async fn redoc_script(request: HttpRequest) -> HttpResponse {
    file(&REDOC_SCRIPT, SCRIPT, &request).await
}

async fn redoc_start(request: HttpRequest) -> HttpResponse {
    file(&Asset::new(REDOC_START), SCRIPT, &request).await
}

/// Redoc's script, cut out of the page that its crate makes: inline, no content security policy could allow it.
static REDOC_SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    let page = aide::redoc::Redoc::new("").html();
    let inline = page.split_once("<script>").map_or("", |(_, rest)| rest);
    let bundle = inline
        .rsplit_once("Redoc.init(")
        .map_or("", |(bundle, _)| bundle);
    Asset::new(bundle.trim().replace(REDOC_BADGE, NO_IMAGE))
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_redoc_script_is_whole_and_loads_nothing_from_outside() {
        let script = String::from_utf8_lossy(REDOC_SCRIPT.plain());
        assert!(script.len() > 500_000, "{} bytes", script.len());
        assert!(!script.contains("cdn.redoc.ly") && !script.contains("</script"));
    }

    #[test]
    fn no_page_names_another_host() {
        for page in [SWAGGER_PAGE, REDOC_PAGE] {
            assert!(!page.contains("//"), "{page}");
        }
    }
}
