//! The innermost layer, around routing: what may reach a handler, and that each request gets an answer.
//!
//! Refuses requests by their head; a handler that panics or takes too long is
//! answered for. It answers `Ok` always, so that the layers around it count what it refused.

use std::{any::Any, future::Future, panic::AssertUnwindSafe, rc::Rc, time::Duration};

use actix_web::{
    Error, HttpMessage, HttpRequest,
    dev::{Service, ServiceRequest, ServiceResponse},
    http::{Method, StatusCode},
    test::TestRequest,
};
use dotmac_supervision::panic_message;
use futures_util::{FutureExt, future::LocalBoxFuture};
use tokio::time::timeout;

use super::{
    Config, Problem, RouteLimits, RouteSet, body::Arrival, extractor_errors, head::HeadRules, nul,
    trace::Exchange,
};

type Answer = LocalBoxFuture<'static, Result<ServiceResponse, Error>>;

/// The limits of requests: in general, and by route.
pub(super) struct RequestLimits {
    general: Limits,
    own: Vec<(String, Method, RouteLimits)>,
    /// Patterns of the routes whose paths are secrets.
    secret_paths: Vec<String>,
}

impl RequestLimits {
    pub(super) fn new(config: &Config, routes: Option<&dyn RouteSet>) -> Self {
        let own = routes.map(RouteSet::limits).unwrap_or_default();
        let secret = own.iter().filter(|(_, _, limits)| limits.hides_path);
        Self {
            general: Limits {
                body: config.body_limit,
                time: config.request_timeout,
                takes_bytes: false,
            },
            secret_paths: secret.map(|(path, _, _)| path.clone()).collect(),
            own,
        }
    }

    /// The limits of a request to the route with this pattern.
    pub(super) fn of(&self, route: Option<&str>, method: &Method) -> Limits {
        let of_route = |(path, of, _): &&(String, Method, RouteLimits)| {
            Some(path.as_str()) == route && of == method
        };
        let own = self
            .own
            .iter()
            .find(of_route)
            .map(|(_, _, limits)| *limits)
            .unwrap_or_default();
        Limits {
            body: own.body.unwrap_or(self.general.body),
            time: own.time.unwrap_or(self.general.time),
            takes_bytes: own.takes_bytes,
        }
    }

    /// The pattern to show in place of a path that is a secret: that of its route, or, where no route takes the request, of one
    /// that its path begins like.
    pub(super) fn secret_path(&self, route: Option<&str>, path: &str) -> Option<&str> {
        let is_secret = |pattern: &&String| match route {
            Some(route) => pattern.as_str() == route,
            None => {
                let begin = pattern.split('{').next().unwrap_or_default();
                path.starts_with(begin)
            }
        };
        self.secret_paths.iter().find(is_secret).map(String::as_str)
    }
}

/// The limits of one request.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Largest body, in bytes.
    pub(super) body: usize,
    /// Longest time to the head of the response.
    pub(super) time: Duration,
    /// The body is bytes, regardless of its type.
    pub(super) takes_bytes: bool,
}

/// Stands between the layers and routing.
pub(super) struct Guard<S> {
    router: S,
    screening: HeadRules,
    /// Stands in for the request in answers that we give for a handler: a request may not be cloned
    /// before it is routed (actix panics), and is gone with the handler. One for each worker; actix
    /// makes them public only here.
    stand_in: HttpRequest,
}

impl<S> Guard<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse, Error = Error>,
    S::Future: 'static,
{
    pub(super) fn new(router: S, screening: HeadRules) -> Self {
        Self {
            router,
            screening,
            stand_in: TestRequest::default().to_http_request(),
        }
    }

    pub(super) fn router(&self) -> &S {
        &self.router
    }

    /// The request, routed and answered.
    pub(super) fn call(&self, request: ServiceRequest) -> Answer {
        // The envelope has put it there, for every request that comes this way.
        let exchange = request.extensions().get::<Rc<Exchange>>().cloned();
        let Some(exchange) = exchange else {
            return answered(
                request.error_response(Problem::internal("a request without exchange")),
            );
        };
        // Orchestrators and scrapers use the address, not the public name.
        let refusal =
            self.screening
                .refusal(request.head(), exchange.is_quiet(), exchange.limits().body);
        if let Some(problem) = refusal {
            return answered(request.error_response(problem));
        }
        let stand_in = self.stand_in.clone();
        // Middleware and routing run in `call`, before there is a future to poll.
        match std::panic::catch_unwind(AssertUnwindSafe(|| self.router.call(request))) {
            Ok(handler) => Box::pin(answer(handler, exchange, stand_in)),
            Err(panic) => answered(ServiceResponse::from_err(panicked(panic), stand_in)),
        }
    }
}

fn answered(response: ServiceResponse) -> Answer {
    Box::pin(std::future::ready(Ok(response)))
}

/// The handler's answer, or ours in its place.
async fn answer(
    handler: impl Future<Output = Result<ServiceResponse, Error>>,
    exchange: Rc<Exchange>,
    stand_in: HttpRequest,
) -> Result<ServiceResponse, Error> {
    let limits = exchange.limits();
    // Not dropped before it is known how far the body came.
    let mut handler = Box::pin(AssertUnwindSafe(handler).catch_unwind());
    let error = match timeout(limits.time, &mut handler).await {
        // After a cut body the reason is its size or its text, regardless of the handler's answer.
        Ok(Ok(Ok(response))) if exchange.arrival() == Arrival::TooLarge => {
            return Ok(response.error_response(extractor_errors::too_large(limits.body)));
        }
        Ok(Ok(Ok(response))) if exchange.arrival() == Arrival::HasNul => {
            return Ok(response.error_response(nul::refused("body")));
        }
        Ok(Ok(Ok(response))) => return Ok(response),
        Ok(Ok(Err(error))) => error,
        Ok(Err(panic)) => panicked(panic).into(),
        Err(_) => overdue(exchange.arrival(), limits.time).into(),
    };
    Ok(ServiceResponse::from_err(error, stand_in))
}

/// The panic hook has logged message and place; as the cause of this problem the message is also in
/// the request's own error line, which has the request id.
fn panicked(panic: Box<dyn Any + Send>) -> Problem {
    let message = panic_message(&*panic);
    Problem::internal(format!("the handler panicked: {message}"))
}

/// 408 is the client's doing and safe to repeat. 504 is not: the progress of the handler is not known, so it is not 503
/// with `Retry-After`.
fn overdue(arrival: Arrival, limit: Duration) -> Problem {
    if arrival == Arrival::Awaited {
        Problem::new(StatusCode::REQUEST_TIMEOUT)
            .detail("the body did not arrive in time")
            .code("slow_body")
    } else {
        Problem::new(StatusCode::GATEWAY_TIMEOUT)
            .detail("the request was not answered in time; it may have been executed")
            .code("timeout")
            .caused_by(format!("no answer within {limit:?}"))
    }
}
