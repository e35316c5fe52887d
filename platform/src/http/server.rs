//! Puts routes, envelope and sockets together.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use actix_http::HttpService;
use actix_service::{IntoServiceFactory, ServiceFactoryExt, map_config};
use actix_web::{
    App, Error,
    dev::{AppConfig, Server, ServerHandle, ServiceFactory, ServiceRequest, ServiceResponse},
    http::KeepAlive,
    web,
};
use utoipa::openapi::{
    ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder, RefOr, ResponseBuilder,
    content::ContentBuilder, extensions::Extensions, path::Operation,
};
use utoipa::{PartialSchema, ToSchema};
use utoipa_actix_web::{AppExt, service_config::ServiceConfig};

use super::{
    Config, Listeners, Parts, Routes, Surface, TlsCertificates, TlsError,
    builtin::{self, Index},
    compression::Compression,
    connection::{Acceptor, Connection, ConnectionLimit, Connections},
    cors::{self, CorsPolicyError},
    docs::{self, Document, Title},
    envelope::Envelope,
    expectation::Expecting,
    extractor_errors,
    methods::{self, Methods},
    probes::{self, Probes},
    problem::ProblemBody,
};
use crate::about::Build;

/// Most workers that actix can run.
const MAX_WORKERS: usize = 512;

/// How long the rest of a request is read after an early answer, so that the client can read that.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// A server that answers from the moment [`server`](Self::server) is polled.
pub struct Running {
    /// Resolves when the server has stopped. It ignores signals: stopping is the program's decision.
    pub server: Server,
    /// Stops, pauses and resumes the server.
    pub handle: ServerHandle,
    /// The certificate in use, to be reloaded when its files change; `None` without TLS.
    pub certificates: Option<Arc<TlsCertificates>>,
    /// How many connections it has at once.
    pub limit: ConnectionLimit,
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The cross-origin policy contradicts itself.
    #[error(transparent)]
    Cors(#[from] CorsPolicyError),
    /// A listener cannot be handed to the server.
    #[error("cannot serve on the listening socket")]
    Listen(#[from] io::Error),
}

/// Serves on `listeners`: workers start at once, and answer when `Running::server` is polled.
///
/// Must be called on the actix system's thread. Install the global meter provider before: each
/// worker makes its instruments when it starts.
///
/// # Errors
///
/// [`ServeError`]: certificate or cross-origin policy. Nothing runs then.
pub fn serve(listeners: Listeners, config: Config, parts: Parts) -> Result<Running, ServeError> {
    cors::middleware(&config.cors)?;
    let certificates = config.tls.clone().map(TlsCertificates::load).transpose()?;
    let workers = config.workers.clamp(1, MAX_WORKERS);
    let shutdown_seconds = config.shutdown_timeout.as_millis().div_ceil(1000);
    let mut server = Server::build()
        .workers(workers)
        .disable_signals()
        .max_concurrent_connections((config.max_connections / workers).max(1))
        .shutdown_timeout(u64::try_from(shutdown_seconds).unwrap_or(u64::MAX));

    let connections = Connections::new(&config);
    // The management listener's own connections and workers have no metrics.
    let workers = (config.surface != Surface::Management).then(|| parts.workers.clone());
    if let Some(workers) = &workers {
        connections.observe();
        workers.observe();
        actix_rt::spawn(workers.clone().report());
    }
    let (stop, stopping) = (server.graceful_shutdown_signal(), Arc::clone(&connections));
    actix_rt::spawn(async move {
        stop.notified().await;
        stopping.stop();
    });

    let tls = certificates.as_ref().map(TlsCertificates::server_config);
    let tls = tls.transpose()?.map(Arc::new);
    let shared = Shared::new(config, parts);
    for socket in listeners.sockets {
        let address = socket.local_addr().map_err(ServeError::Listen)?;
        let (shared, connections, tls) = (shared.clone(), Arc::clone(&connections), tls.clone());
        let workers = workers.clone();
        let accept = move || {
            Acceptor::new(
                Arc::clone(&connections),
                workers.clone(),
                tls.clone(),
                shared.http(address, tls.is_some()),
            )
        };
        server = server
            .listen(format!("http {address}"), socket, accept)
            .map_err(ServeError::Listen)?;
    }
    let server = server.run();
    Ok(Running {
        handle: server.handle(),
        server,
        certificates,
        limit: ConnectionLimit::of(&connections),
    })
}

/// The OpenAPI document of every route that [`serve`] would mount.
pub fn openapi(config: &Config, routes: &Routes) -> OpenApi {
    let app = App::new().into_utoipa_app().openapi(described(config));
    let app = app.configure(|app| mount(app, config.surface, config.docs_enabled, routes));
    complete(app.split_for_parts().1, routes)
}

/// The paths of the platform's own routes, which no module can have.
pub(crate) fn built_in_paths() -> Vec<String> {
    let documented = built_in(Surface::All, true).paths.paths.into_keys();
    let files = docs::FILES.map(str::to_owned);
    documented.chain(files).collect()
}

/// The methods of every path that [`serve`] would mount.
fn methods(config: &Config, routes: &Routes) -> Methods {
    let built_in = built_in(config.surface, config.docs_enabled);
    Methods::of(&built_in, routes.modules.as_deref())
}

/// The operations of the platform's own routes.
fn built_in(surface: Surface, docs_enabled: bool) -> OpenApi {
    let app = App::new().into_utoipa_app();
    let app = app.configure(|app| mount(app, surface, docs_enabled, &Routes::default()));
    app.split_for_parts().1
}

/// The shared state of all workers.
#[derive(Clone)]
pub(super) struct Shared {
    config: Arc<Config>,
    routes: Routes,
    probes: web::Data<Probes>,
    document: web::Data<Document>,
    methods: Arc<Methods>,
    title: web::Data<Title>,
    index: web::Data<Index>,
    scrape: web::Data<super::config::Scrape>,
    compression: Compression,
}

impl Shared {
    pub(super) fn new(config: Config, parts: Parts) -> Self {
        let config = Arc::new(config);
        let (described, routes) = (Arc::clone(&config), parts.routes.clone());
        Self {
            probes: web::Data::new(Probes::new(
                &config,
                Arc::clone(&parts.vitals),
                parts.workers,
            )),
            document: web::Data::new(Document::new(move || openapi(&described, &routes))),
            methods: Arc::new(methods(&config, &parts.routes)),
            title: web::Data::new(Title::new(&config)),
            index: web::Data::new(Index::new(&config)),
            scrape: web::Data::new(Arc::clone(&parts.scrape)),
            compression: Compression::new(),
            config,
            routes: parts.routes,
        }
    }

    /// One worker's HTTP on the connections of one listener.
    fn http(
        &self,
        address: SocketAddr,
        secure: bool,
    ) -> impl ServiceFactory<(Connection, Option<SocketAddr>), Config = (), Response = ()> + use<>
    {
        let app = self
            .app()
            .into_factory()
            .map_err(|error: Error| error.error_response());
        // actix-web offers no other way to say that connections are TLS, without its own server.
        let app = map_config(app, move |()| {
            AppConfig::__priv_test_new(secure, address.to_string(), address)
        });
        let app = Expecting::new(app);
        let keep_alive = if self.config.keep_alive.is_zero() {
            KeepAlive::Disabled
        } else {
            // How long is up to `connection`, as is the time for heads.
            KeepAlive::Os
        };
        HttpService::build()
            .keep_alive(keep_alive)
            .client_request_timeout(Duration::ZERO)
            .client_disconnect_timeout(CLOSE_WITHIN)
            // Who closes a connection wants no answer: the handler ends.
            .h1_allow_half_closed(false)
            .local_addr(address)
            .on_connect_ext(|connection: &Connection, data| connection.introduce(data))
            .expect(app.expect())
            .h1(app.service())
    }

    /// One worker's application.
    pub(super) fn app(
        &self,
    ) -> App<
        impl ServiceFactory<
            ServiceRequest,
            Config = (),
            Response = ServiceResponse,
            Error = Error,
            InitError = (),
        > + use<>,
    > {
        let config = &self.config;
        let app = App::new()
            .into_utoipa_app()
            .configure(|app| mount(app, config.surface, config.docs_enabled, &self.routes))
            .into_app();
        app.app_data(Arc::clone(&self.methods))
            .app_data(self.probes.clone())
            .app_data(self.document.clone())
            .app_data(self.title.clone())
            .app_data(self.index.clone())
            .app_data(self.scrape.clone())
            .configure(|app| {
                extractor_errors::configure(app, config.body_limit);
                // Last, so that an embedding program may replace the extractors' settings.
                self.routes.data.iter().for_each(|insert| insert(app));
            })
            .default_service(web::to(methods::unrouted))
            .wrap(Envelope {
                config: Arc::clone(config),
                probes: self.probes.clone().into_inner(),
                modules: self.routes.modules.clone(),
                methods: Arc::clone(&self.methods),
                compression: self.compression.clone(),
            })
    }
}

/// Mounts everything: built-in routes first, so that no module can shadow a probe.
fn mount(app: &mut ServiceConfig<'_>, surface: Surface, docs_enabled: bool, routes: &Routes) {
    probes::routes(app, surface);
    builtin::routes(app, surface);
    if docs_enabled {
        docs::routes(app, surface);
    }
    if let Some(modules) = &routes.modules {
        modules.mount(app);
    }
}

/// The document before any route is in it.
fn described(config: &Config) -> OpenApi {
    let info = InfoBuilder::new()
        .title(config.app_name.as_str())
        .version(config.version.as_str())
        .extensions(build_extensions(config.build))
        .description(Some(
            "Every error that a request meets is answered as `application/problem+json` (RFC 9457, schema \
             `Problem`); a client that does not send an HTTP request gets a bare 4xx and a closed connection. Not \
             listed here: the files of the pages `/docs` and `/redoc`.",
        ));
    OpenApiBuilder::new().info(info.build()).build()
}

/// Which build of the program it describes, as far as that is known.
fn build_extensions(build: Build) -> Option<Extensions> {
    let known = [("x-revision", build.revision), ("x-built", build.time)];
    let known = known
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    let extensions: Extensions = known.collect();
    (!extensions.is_empty()).then_some(extensions)
}

/// Adds what holds for every operation: its errors.
fn complete(mut document: OpenApi, routes: &Routes) -> OpenApi {
    if let Some(modules) = &routes.modules {
        modules.describe(&mut document);
    }
    let mut schemas = vec![(String::from("Problem"), ProblemBody::schema())];
    ProblemBody::schemas(&mut schemas);
    let problem = ContentBuilder::new()
        .schema(Some(utoipa::openapi::Ref::from_schema_name("Problem")))
        .build();
    let response = ResponseBuilder::new()
        .description("The request was refused or failed; the body says why.")
        .content("application/problem+json", problem)
        .build();
    let mut components = document
        .components
        .take()
        .unwrap_or_else(|| ComponentsBuilder::new().build());
    components.schemas.extend(schemas);
    components
        .responses
        .insert("Problem".to_owned(), RefOr::T(response));
    document.components = Some(components);
    for item in document.paths.paths.values_mut() {
        let operations = [
            &mut item.get,
            &mut item.put,
            &mut item.post,
            &mut item.delete,
            &mut item.options,
            &mut item.head,
            &mut item.patch,
            &mut item.trace,
        ];
        operations
            .into_iter()
            .flatten()
            .for_each(fails_with_a_problem);
    }
    document
}

fn fails_with_a_problem(operation: &mut Operation) {
    let problem = || RefOr::Ref(utoipa::openapi::Ref::from_response_name("Problem"));
    operation
        .responses
        .responses
        .entry("default".to_owned())
        .or_insert_with(problem);
}
