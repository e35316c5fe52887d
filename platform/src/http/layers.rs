//! The layers between envelope and routing, each passed only by the requests that need it.
//!
//! Metrics around problem bodies around CORS around the [`Guard`]: the sizes that are measured are those
//! of the bodies that clients get. Their services are of different types and their answers have
//! different bodies, so each is hidden behind [`Layer`].

use std::{rc::Rc, sync::Arc};

use actix_cors::Cors;
use actix_web::{
    Error,
    body::MessageBody,
    dev::{Service, ServiceRequest, ServiceResponse, Transform, always_ready},
    http::header::{self, HeaderValue},
};
use futures_util::future::LocalBoxFuture;
use opentelemetry_instrumentation_actix_web::RequestMetrics;

use super::{
    finish, guard::Guard, in_flight::InFlight, methods::Methods, trace::Exchange, trusted,
};

type Answer = LocalBoxFuture<'static, Result<ServiceResponse, Error>>;

/// A service with its type forgotten.
#[derive(Clone)]
pub(super) struct Layer(Rc<dyn Fn(ServiceRequest) -> Answer>);

impl Layer {
    fn new(call: impl Fn(ServiceRequest) -> Answer + 'static) -> Self {
        Self(Rc::new(call))
    }

    fn of<S, B>(service: S) -> Self
    where
        S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
        S::Future: 'static,
        B: MessageBody + 'static,
    {
        Self::new(move |request| {
            let answer = service.call(request);
            Box::pin(async move { Ok(answer.await?.map_into_boxed_body()) })
        })
    }
}

impl Service<ServiceRequest> for Layer {
    type Response = ServiceResponse;
    type Error = Error;
    type Future = Answer;

    always_ready!();

    fn call(&self, request: ServiceRequest) -> Self::Future {
        (self.0)(request)
    }
}

/// Builds the layers around `guard`.
pub(super) async fn around<S>(
    guard: Rc<Guard<S>>,
    cors: Option<Cors>,
    metrics: RequestMetrics,
    methods: Arc<Methods>,
) -> Result<Layer, ()>
where
    S: Service<ServiceRequest, Response = ServiceResponse, Error = Error> + 'static,
    S::Future: 'static,
{
    let guarded = Layer::new(move |request| guard.call(request));
    let crossing = match cors {
        Some(cors) => across_origins(cors, guarded).await?,
        None => guarded,
    };
    let rendered = with_problems(crossing, methods);
    let measured = Layer::of(metrics.new_transform(rendered.clone()).await?);
    let in_flight = InFlight::new();
    Ok(Layer::new(move |request| {
        let Some(exchange) = exchange(&request).filter(|exchange| !exchange.is_quiet()) else {
            return rendered.call(request);
        };
        let guard = in_flight.guard(exchange.metric_attributes());
        let answer = measured.call(request);
        Box::pin(async move {
            let answer = answer.await;
            guard.answered();
            answer
        })
    }))
}

/// Errors as problems.
fn with_problems(inner: Layer, methods: Arc<Methods>) -> Layer {
    Layer::new(move |request| {
        let exchange = exchange(&request);
        let (answer, methods) = (inner.call(request), Arc::clone(&methods));
        Box::pin(async move {
            let response = answer.await?;
            Ok(match exchange {
                Some(exchange) => {
                    finish::as_problem(response, exchange.id(), exchange.path(), &methods)
                }
                None => response,
            })
        })
    })
}

/// CORS for requests from other origins; pages of this very host do not need it and would be refused.
async fn across_origins(cors: Cors, inner: Layer) -> Result<Layer, ()> {
    let checked = Layer::of(cors.new_transform(inner.clone()).await?);
    Ok(Layer::new(move |request| {
        if !trusted::is_same_origin(&request) {
            return checked.call(request);
        }
        let answer = inner.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            // The same path answers other origins with other headers: a cache must know.
            response
                .headers_mut()
                .append(header::VARY, HeaderValue::from_static("Origin"));
            Ok(response)
        })
    }))
}

fn exchange(request: &ServiceRequest) -> Option<Rc<Exchange>> {
    use actix_web::HttpMessage;
    request.extensions().get::<Rc<Exchange>>().cloned()
}
