//! The configuration of the HTTP layer: plain values, already checked by the settings.
//!
//! Nothing here reads the environment; the program maps its settings onto these structs.

use std::{sync::Arc, time::Duration};

use actix_web::{http::Method, web};
use dotmac_supervision::{Board, NotReady, Readiness, SupervisorHandle};
use dotmac_telemetry::TextFormat;
use futures_util::future::LocalBoxFuture;
use ipnet::IpNet;
use utoipa::openapi::OpenApi;
use utoipa_actix_web::service_config::ServiceConfig;

use super::Workers;
use crate::{
    about::Build,
    settings::{CorsSettings, HostPattern},
    tls::TlsFiles,
};

/// The route set of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// Everything.
    All,
    /// For clients: the routes of modules, `/`, the documentation, and of the probes `/health` and `/ready`.
    Api,
    /// For operators: all probes, metrics, and the documentation of these.
    Management,
}

impl Surface {
    /// The setting that says on which host it listens.
    pub(super) const fn host_key(self) -> &'static str {
        match self {
            Self::All | Self::Api => "DOTMAC_HOST",
            Self::Management => "DOTMAC_MANAGEMENT_HOST",
        }
    }

    /// The setting that says on which port it listens.
    pub(super) const fn port_key(self) -> &'static str {
        match self {
            Self::All | Self::Api => "DOTMAC_PORT",
            Self::Management => "DOTMAC_MANAGEMENT_PORT",
        }
    }
}

/// Limits, addresses and policies of the HTTP server.
#[derive(Clone, Debug)]
pub struct Config {
    /// The route set.
    pub surface: Surface,
    /// Address or host name to listen on; a name is resolved once, and every address of it is used.
    pub host: String,
    /// Port to listen on; 0 takes any free one, see [`super::Listeners::addresses`].
    pub port: u16,
    /// Worker threads, at least 1.
    pub workers: usize,
    /// Certificate and key files; `None` serves plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Largest request body in bytes; a larger one is answered 413.
    pub body_limit: usize,
    /// Longest time from the end of a request's head to its response; over it 408 if the client
    /// was still sending the body, else 504.
    pub request_timeout: Duration,
    /// Longest time a client may take to send the head of a request; over it 408, and the connection is closed.
    pub header_timeout: Duration,
    /// Longest time in which a client may take nothing of a response; then the connection is closed.
    pub write_timeout: Duration,
    /// Longest time for a TLS handshake.
    pub tls_handshake_timeout: Duration,
    /// TLS handshakes under way at once from one address (IPv6: from one network of 64 bits), but for trusted
    /// proxies; never more than a quarter of `max_connections`.
    pub tls_handshakes_per_address: usize,
    /// How long an idle connection is kept; zero closes it after each response.
    pub keep_alive: Duration,
    /// Connections served at once, over all workers; more wait in the kernel's queue.
    pub max_connections: usize,
    /// How long requests in flight may take after [`actix_web::dev::ServerHandle::stop`]; rounded up to seconds.
    pub shutdown_timeout: Duration,
    /// Networks whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Host names answered to (`example.org`, `*.example.org`); empty answers to any. Probes and metrics answer to any.
    pub trusted_hosts: Vec<HostPattern>,
    /// Cross-origin policy.
    pub cors: CorsSettings,
    /// Whether `/openapi.json`, `/asyncapi.json`, `/docs` and `/redoc` exist.
    pub docs_enabled: bool,
    /// Name of the environment, as `/health` shows it.
    pub environment: String,
    /// Name of the application, as `/` and the OpenAPI document show it.
    pub app_name: String,
    /// Version of the application, as `/`, `/health` and the OpenAPI document show it.
    pub version: String,
    /// Which build of it, as `/` and `/health` show it.
    pub build: Build,
    /// Whether responses tell browsers to come back by TLS only.
    pub hsts: bool,
}

/// The state of the process for the probes and the drain.
pub trait ProcessState: Send + Sync + 'static {
    /// The newest snapshot of all components. Must not block.
    fn board(&self) -> Arc<Board>;
    /// Whether the supervisor still makes progress. Must not block.
    fn is_alive(&self) -> bool;
    /// Waits until a drain begins; returns at once if it has.
    fn draining(&self) -> LocalBoxFuture<'static, ()>;
}

/// Whether the process drains: connections should move on to another instance.
pub(crate) fn is_draining(board: &Board) -> bool {
    board.readiness == Readiness::NotReady(NotReady::Draining)
}

impl ProcessState for SupervisorHandle {
    fn board(&self) -> Arc<Board> {
        Self::board(self)
    }

    fn is_alive(&self) -> bool {
        Self::is_alive(self)
    }

    fn draining(&self) -> LocalBoxFuture<'static, ()> {
        let supervisor = self.clone();
        Box::pin(async move {
            supervisor.until(is_draining).await;
        })
    }
}

/// Renders the current metrics in the format asked for; an error's text goes to the log only.
pub type Scrape = Arc<dyn Fn(TextFormat) -> Result<String, String> + Send + Sync>;

/// Puts one value into a worker's application.
pub(super) type Insert = Arc<dyn Fn(&mut web::ServiceConfig) + Send + Sync>;

/// The living things that the server asks, and what is mounted on it.
#[derive(Clone)]
pub struct Parts {
    /// The source of the probes' answers.
    pub vitals: Arc<dyn ProcessState>,
    /// The source of `/metrics`.
    pub scrape: Scrape,
    /// The routes in addition to the built-in ones.
    pub routes: Routes,
    /// Whether the workers of the server for clients make progress.
    pub workers: Workers,
}

impl Parts {
    /// A server with the built-in routes only.
    pub fn new(vitals: impl ProcessState, scrape: Scrape, workers: Workers) -> Self {
        Self {
            vitals: Arc::new(vitals),
            scrape,
            routes: Routes::default(),
            workers,
        }
    }

    /// The same without what is mounted.
    #[must_use]
    pub fn without_routes(&self) -> Self {
        Self {
            routes: Routes::default(),
            ..self.clone()
        }
    }
}

/// Routes in addition to the built-in ones, and the data that their handlers take.
#[derive(Clone, Default)]
pub struct Routes {
    pub(super) modules: Option<Arc<dyn RouteSet>>,
    pub(super) data: Vec<Insert>,
}

impl Routes {
    /// Serves the routes of modules as well.
    pub(crate) fn serve_modules(&mut self, modules: impl RouteSet) {
        self.modules = Some(Arc::new(modules));
    }

    /// Makes a value available to handlers and extractors through `HttpRequest::app_data`; give a
    /// [`web::Data`] for use as an extractor. Cloned once for each worker.
    pub fn provide<T: Clone + Send + Sync + 'static>(&mut self, value: T) {
        self.data.push(Arc::new(move |config| {
            config.app_data(value.clone());
        }));
    }
}

/// Routes that are served in addition to the built-in ones.
pub(crate) trait RouteSet: Send + Sync + 'static {
    /// Mounts them on one worker's application.
    fn mount(&self, app: &mut ServiceConfig<'_>);

    /// The pattern and the method of each.
    fn paths(&self) -> Vec<(String, Method)>;

    /// Adds their operations to the OpenAPI document, those that [`mount`](Self::mount) has not added.
    fn describe(&self, document: &mut OpenApi);

    /// The limits that they have of their own, by pattern and method.
    fn limits(&self) -> Vec<(String, Method, RouteLimits)>;
}

/// A separate limit of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RouteLimits {
    /// The largest body, in bytes.
    pub(crate) body: Option<usize>,
    /// The longest time to the head of the answer.
    pub(crate) time: Option<Duration>,
    /// Whether a part of the path is a secret, which is in no span and no line of the log.
    pub(crate) hides_path: bool,
    /// Whether its body is bytes, regardless of its type.
    pub(crate) takes_bytes: bool,
}
