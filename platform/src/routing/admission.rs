//! What stands between routing and a handler: the rules of its route, and the order in which they are applied.
//!
//! A place among the module's requests comes first, then the limits of the client's network, the guard, the limits of the
//! principal, the names in the query, and the claim on an idempotency key: what is refused earlier costs less.

use std::{sync::Arc, time::Duration};

use actix_web::{
    Error, HttpRequest, HttpResponse,
    dev::Payload,
    http::header::{self, HeaderValue},
};

use super::{
    RateLimit,
    bulkhead::ModuleRequests,
    idempotency::{self, Turn},
    query,
    rate_limit::Limits,
};
use crate::access::Guard;

/// The rules of one route.
#[derive(Clone, Debug)]
pub struct RouteRules {
    /// Its method and pattern: `POST /api/v1/notes`.
    pub(super) name: String,
    /// All requests of its module.
    pub(super) module: Arc<ModuleRequests>,
    pub(super) limits: Vec<RateLimit>,
    /// The longest time of a request, if the route says.
    pub(super) time_limit: Option<Duration>,
    /// Whether requests may bring an idempotency key.
    pub(super) takes_key: bool,
    /// Whether the body of an answer is kept for repeats of the request.
    pub(super) keeps_answer: bool,
    /// Whether no cache may keep its answers, unless they say otherwise themselves.
    pub(super) no_store: bool,
    /// The parameters that the query of a request may have; `None` if the handler judges that.
    pub(super) query: Option<Vec<String>>,
}

/// Lets a request through to `handle`, or answers for it.
pub(super) async fn admit<G: Guard>(
    request: HttpRequest,
    payload: Payload,
    rules: Arc<RouteRules>,
    handle: impl AsyncFnOnce(G, &HttpRequest, &mut Payload) -> Result<HttpResponse, Error>,
) -> Result<HttpResponse, Error> {
    let answered = with_place(&request, payload, &rules, handle).await;
    let mut response = answered.unwrap_or_else(HttpResponse::from_error);
    if rules.no_store && !response.headers().contains_key(header::CACHE_CONTROL) {
        let value = HeaderValue::from_static("no-store");
        response.headers_mut().insert(header::CACHE_CONTROL, value);
    }
    Ok(response)
}

async fn with_place<G: Guard>(
    request: &HttpRequest,
    payload: Payload,
    rules: &RouteRules,
    handle: impl AsyncFnOnce(G, &HttpRequest, &mut Payload) -> Result<HttpResponse, Error>,
) -> Result<HttpResponse, Error> {
    let _place = rules.module.enter()?;
    let mut limits = Limits::default();
    limits.of_network(request, rules)?;
    let answered = within_limits(request, payload, rules, &mut limits, handle).await;
    let mut response = answered.unwrap_or_else(HttpResponse::from_error);
    limits.write(&mut response);
    Ok(response)
}

async fn within_limits<G: Guard>(
    request: &HttpRequest,
    mut payload: Payload,
    rules: &RouteRules,
    limits: &mut Limits,
    handle: impl AsyncFnOnce(G, &HttpRequest, &mut Payload) -> Result<HttpResponse, Error>,
) -> Result<HttpResponse, Error> {
    let guard = G::from_request(request, &mut payload).await?;
    if let Some(principal) = guard.principal() {
        limits.of_principal(request, rules, principal)?;
    }
    if let Some(known) = &rules.query {
        query::refuse_unknown(request.query_string(), known)?;
    }
    let turn = match guard.principal() {
        Some(principal) if rules.takes_key => {
            idempotency::begin(request, &mut payload, principal, rules).await?
        }
        _ => Turn::Go(None),
    };
    let pending = match turn {
        Turn::Go(pending) => pending,
        Turn::Answered(response) => return Ok(response),
    };
    let answered = handle(guard, request, &mut payload).await;
    match (pending, answered) {
        (Some(pending), Ok(response)) => Ok(pending.finish(response).await),
        (Some(pending), Err(error)) => {
            pending.release().await;
            Err(error)
        }
        (None, answered) => answered,
    }
}
