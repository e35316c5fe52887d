//! Rate limits by what only a handler knows.

use std::future::{Ready, ready};

use actix_web::{FromRequest, HttpRequest, dev::Payload};

use super::{
    Argument, Operation, RateLimit,
    limiter::Limiter,
    rate_limit::{LIMITED, Limits},
};
use crate::{http::Problem, supervised::provided};

/// Counts by a key that only the handler knows, such as the session of a refresh token. An [argument](Argument) of handlers.
///
/// ```
/// # use std::time::Duration;
/// # use dotmac_platform::{access::Public, http::Problem, routing::{KeyedLimit, NoContent, RateLimit}};
/// const PER_SESSION: RateLimit = RateLimit::per_key(60, Duration::from_secs(60)).named("refresh");
///
/// async fn refresh(_: Public, limit: KeyedLimit) -> Result<NoContent, Problem> {
///     let session = 7;
///     limit.count(PER_SESSION, session)?;
///     Ok(NoContent)
/// }
/// ```
#[derive(Clone)]
pub struct KeyedLimit {
    limiter: Limiter,
    route: String,
}

impl KeyedLimit {
    /// Counts a request of `key`.
    ///
    /// # Errors
    ///
    /// 429 `rate_limited` beyond the limit.
    pub fn count(&self, limit: RateLimit, key: impl std::hash::Hash) -> Result<(), Problem> {
        let counted = (&self.route, limit.counted_by(), limit.quota.window, key);
        let verdict = self.limiter.count(counted, limit.quota);
        Limits::from((limit, verdict)).refused(&self.route)
    }
}

impl FromRequest for KeyedLimit {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let pattern = request.match_pattern().unwrap_or_default();
        ready(provided(request).map(|limiter| Self {
            limiter,
            route: format!("{} {pattern}", request.method()),
        }))
    }
}

impl Argument for KeyedLimit {
    fn describe(operation: &mut Operation) {
        operation.needs::<Limiter>();
        operation.problem(LIMITED);
    }
}
