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
    bulkhead::{ModuleRequests, Place},
    idempotency::{self, Pending, Turn},
    query,
    rate_limit::Limits,
};
use crate::access::Principal;

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

/// A request on its way to its handler, and what it holds meanwhile. Knows no types of the handler, so that it is compiled
/// once for all of them.
pub(super) struct Admission {
    pub(super) request: HttpRequest,
    pub(super) payload: Payload,
    rules: Arc<RouteRules>,
    limits: Limits,
    /// Free for others when the request ends, however it does.
    place: Option<Place>,
    pending: Option<Arc<Pending>>,
}

impl Admission {
    pub(super) fn new(request: HttpRequest, payload: Payload, rules: Arc<RouteRules>) -> Self {
        Self {
            request,
            payload,
            rules,
            limits: Limits::default(),
            place: None,
            pending: None,
        }
    }

    /// What is done before the guard checks the request.
    ///
    /// # Errors
    ///
    /// 503 without a place, 429 beyond a limit of the client's network.
    pub(super) fn enter(&mut self) -> Result<(), Error> {
        self.place = Some(self.rules.module.enter()?);
        self.limits.of_network(&self.request, &self.rules)?;
        Ok(())
    }

    /// What is done once the guard has let the request pass. Returns the answer if there was one before.
    ///
    /// # Errors
    ///
    /// 429 beyond a limit of the principal, 400 for an unknown parameter, and what [`idempotency::begin`] says.
    pub(super) async fn claim(
        &mut self,
        principal: Option<&Principal>,
    ) -> Result<Option<HttpResponse>, Error> {
        let (request, rules) = (&self.request, &self.rules);
        if let Some(principal) = principal {
            self.limits.of_principal(request, rules, principal)?;
        }
        if let Some(known) = &rules.query {
            query::refuse_unknown(request.query_string(), known)?;
        }
        let Some(principal) = principal.filter(|_| rules.takes_key) else {
            return Ok(None);
        };
        match idempotency::begin(request, &mut self.payload, principal, rules).await? {
            Turn::Go(pending) => {
                self.pending = pending;
                Ok(None)
            }
            Turn::Answered(response) => Ok(Some(response)),
        }
    }

    /// Ends what the request holds, and completes its answer.
    pub(super) async fn finish(self, answered: Result<HttpResponse, Error>) -> HttpResponse {
        let answered = match (self.pending, answered) {
            (Some(pending), Ok(response)) => Ok(pending.finish(response).await),
            (Some(pending), Err(error)) => {
                pending.release().await;
                Err(error)
            }
            (None, answered) => answered,
        };
        let mut response = answered.unwrap_or_else(HttpResponse::from_error);
        self.limits.write(&mut response);
        if self.rules.no_store && !response.headers().contains_key(header::CACHE_CONTROL) {
            let value = HeaderValue::from_static("no-store");
            response.headers_mut().insert(header::CACHE_CONTROL, value);
        }
        response
    }
}
