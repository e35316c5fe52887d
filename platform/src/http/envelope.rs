//! The outermost layer: what holds for each request and each response, in one place.
//!
//! Probes are answered right here, before anything else can be slow or broken. Every other request
//! passes, in this order: request id and span, metrics, problem bodies, CORS, the guard (host, encoding
//! and size of the body, panic, time-out), routing; then its response: access log, compression, headers.
//! One middleware instead of ten keeps probes as cheap as a bare handler, and the order readable.

use std::{
    future::{Ready, ready},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use actix_web::{
    Error, HttpMessage, HttpRequest,
    dev::{Payload, Service, ServiceRequest, ServiceResponse, Transform},
    http::{Method, header},
};
use futures_util::future::{Either, LocalBoxFuture};
use opentelemetry_instrumentation_actix_web::RequestMetrics;
use tokio::task::yield_now;
use tracing::Instrument;

use super::{
    Config, RequestId, RouteSet, Surface,
    compression::Compression,
    connection::{self, Exchanging},
    cors,
    finish::{self, Security},
    guard::{Guard, RequestLimits},
    head::{HeadRules, has_valid_host},
    in_flight::InFlight,
    layers::{self, Layer},
    methods::Methods,
    pieces,
    probes::{Probe, Probes},
    trace::{self, Exchange},
    trusted::Trusted,
};

/// Wraps an application; made once for each worker.
pub(super) struct Envelope {
    pub(super) config: Arc<Config>,
    pub(super) probes: Arc<Probes>,
    pub(super) modules: Option<Arc<dyn RouteSet>>,
    pub(super) methods: Arc<Methods>,
    pub(super) compression: Compression,
}

impl<S> Transform<S, ServiceRequest> for Envelope
where
    S: Service<ServiceRequest, Response = ServiceResponse, Error = Error> + 'static,
    S::Future: 'static,
{
    type Response = ServiceResponse;
    type Error = Error;
    type InitError = ();
    type Transform = Enveloped<S>;
    type Future = LocalBoxFuture<'static, Result<Self::Transform, ()>>;

    fn new_transform(&self, router: S) -> Self::Future {
        let (config, probes, methods) = (
            Arc::clone(&self.config),
            Arc::clone(&self.probes),
            Arc::clone(&self.methods),
        );
        let compression = self.compression.clone();
        let limits = RequestLimits::new(&config, self.modules.as_deref());
        Box::pin(async move {
            dotmac_telemetry::watch_runtime("http");
            let trusted = Rc::new(Trusted::new(&config.trusted_proxies, &config.trusted_hosts));
            let screening = HeadRules {
                trusted: Rc::clone(&trusted),
            };
            let guard = Rc::new(Guard::new(router, screening));
            let cors = cors::middleware(&config.cors)
                .map_err(|error| tracing::error!(%error, "cannot set up CORS"))?;
            let metrics = RequestMetrics::builder()
                .with_meter_provider(InFlight::meters())
                .with_metric_attrs_from_req(trace::metric_attributes)
                .build();
            let layers = layers::around(Rc::clone(&guard), cors, metrics, methods).await?;
            let security = Security::new(config.hsts);
            Ok(Enveloped {
                guard,
                desk: Rc::new(EnvelopeState {
                    surface: config.surface,
                    layers,
                    trusted,
                    limits,
                    security,
                    probes,
                    compression,
                }),
            })
        })
    }
}

/// An application in its envelope.
pub(super) struct Enveloped<S> {
    guard: Rc<Guard<S>>,
    desk: Rc<EnvelopeState>,
}

impl<S> Service<ServiceRequest> for Enveloped<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse, Error = Error> + 'static,
    S::Future: 'static,
{
    type Response = ServiceResponse;
    type Error = Error;
    type Future = Either<
        Ready<Result<ServiceResponse, Error>>,
        LocalBoxFuture<'static, Result<ServiceResponse, Error>>,
    >;

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.guard.router().poll_ready(context)
    }

    fn call(&self, mut request: ServiceRequest) -> Self::Future {
        let method = request.method().clone();
        let must_wait = connection::must_wait_its_turn(&request);
        if let Some(probe) = plain_probe(&request, &method, self.desk.surface) {
            let response = self.desk.probe(probe, request);
            connection::note_answered(&response);
            return if must_wait {
                Either::Right(Box::pin(async move {
                    yield_now().await;
                    Ok(response)
                }))
            } else {
                Either::Left(ready(Ok(response)))
            };
        }
        if method == Method::HEAD {
            // Routed as GET; actix leaves the body out when it writes the response.
            request.head_mut().method = Method::GET;
            request.extensions_mut().insert(RoutedAsGet);
        }
        let exchanging = Exchanging::begin(&request);
        let served = Rc::clone(&self.desk).serve(request, method);
        Either::Right(Box::pin(async move {
            if must_wait {
                yield_now().await;
            }
            Ok(exchanging.until_sent(served.await?))
        }))
    }
}

/// Among the extensions of a `HEAD`.
struct RoutedAsGet;

/// Whether the client sent `HEAD`, which is routed as `GET`: a handler whose body costs something need not make it.
pub(crate) fn is_head(request: &HttpRequest) -> bool {
    request.extensions().get::<RoutedAsGet>().is_some()
}

/// A probe as orchestrators send it. With a body, or from a page of another origin, or malformed, it
/// goes the long way.
fn plain_probe(request: &ServiceRequest, method: &Method, surface: Surface) -> Option<Probe> {
    let plain = matches!(*method, Method::GET | Method::HEAD)
        && matches!(request.parts().1, Payload::None)
        && !request.headers().contains_key(header::ORIGIN)
        && has_valid_host(request.headers());
    plain.then(|| Probe::of(request.path(), surface)).flatten()
}

/// The state of a worker for serving requests.
struct EnvelopeState {
    surface: Surface,
    layers: Layer,
    trusted: Rc<Trusted>,
    limits: RequestLimits,
    security: Security,
    probes: Arc<Probes>,
    compression: Compression,
}

impl EnvelopeState {
    fn probe(&self, probe: Probe, request: ServiceRequest) -> ServiceResponse {
        let id = RequestId::of(request.headers());
        let response = self.probes.answer(probe);
        self.sealed(request.into_response(response), &id)
    }

    async fn serve(
        self: Rc<Self>,
        mut request: ServiceRequest,
        method: Method,
    ) -> Result<ServiceResponse, Error> {
        let exchange = Rc::new(Exchange::of(
            &mut request,
            &method,
            &self.trusted,
            &self.limits,
        ));
        let span = exchange.span(&request, &self.trusted);
        request.extensions_mut().insert(Rc::clone(&exchange));
        request.extensions_mut().insert(exchange.id().clone());
        async move {
            let response = self.layers.call(request).await?;
            // Before compression, which hides the size.
            exchange.finish(&response);
            let response = pieces::cut(self.compression.apply(response));
            let response = exchange.hold(response);
            Ok(self.sealed(response, exchange.id()))
        }
        .instrument(span)
        .await
    }

    fn sealed(&self, mut response: ServiceResponse, id: &RequestId) -> ServiceResponse {
        self.security.apply(response.headers_mut());
        finish::seal(&mut response, id, self.probes.is_draining());
        response
    }
}
