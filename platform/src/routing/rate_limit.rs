//! Rate limits of routes: what is counted, what is refused, and the headers about it.
//!
//! A route declares its limits, for each principal and for each client network; a request has to be within all of them:
//!
//! ```
//! # use std::time::Duration;
//! # use dotmac_platform::{access::Public, routing::{NoContent, RateLimit, Routes}};
//! # async fn ask(_: Public) -> NoContent { NoContent }
//! # fn declare(routes: &mut Routes) {
//! routes
//!     .post("/questions", ask)
//!     .rate_limit(RateLimit::per_network(100, Duration::from_secs(60)));
//! # }
//! ```
//!
//! Answers say what is left in `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers). Beyond a limit the
//! answer is 429 `rate_limited` with `Retry-After`, before credentials are checked if it is the network's limit.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{HeaderName, HeaderValue},
    },
};
use opentelemetry::{KeyValue, global, metrics::Counter};

use super::{
    Operation, ProblemType,
    admission::RouteRules,
    limiter::{Limiter, Quota, Verdict},
};
use crate::{access::Principal, http, http::Problem, supervised::provided};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

pub(super) const LIMITED: ProblemType = ProblemType::new(
    429,
    "rate_limited",
    "too many requests; retry after `Retry-After` seconds",
);

/// The longest time in which requests are counted.
const LONGEST_WINDOW: u64 = 24 * 60 * 60;

/// How often one caller may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    pub(super) by: CountedBy,
    /// What clients read, in place of whose requests are counted.
    policy: Option<&'static str>,
    across_routes: bool,
    pub(super) quota: Quota,
}

/// Whose requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CountedBy {
    Principal,
    Network,
    /// A network as a provider gives it to one customer, of many smaller ones.
    WideNetwork,
    /// What the handler says, by a [`KeyedLimit`](super::KeyedLimit).
    Key,
}

impl RateLimit {
    /// At most `requests` in any `window`, of each principal. For routes that know who calls: on a public one it is
    /// refused at the start.
    ///
    /// `requests` is at least 1, `window` in whole seconds from 1 s to 24 h; what is beyond that is cut.
    #[must_use]
    pub const fn per_principal(requests: u32, window: Duration) -> Self {
        Self::new(CountedBy::Principal, requests, window)
    }

    /// At most `requests` in any `window`, of each client network: an IPv4 address, or an IPv6 network of 64 bits. The
    /// client's address is the one that trusted proxies say.
    ///
    /// As [`per_principal`](Self::per_principal) otherwise.
    #[must_use]
    pub const fn per_network(requests: u32, window: Duration) -> Self {
        Self::new(CountedBy::Network, requests, window)
    }

    /// At most `requests` in any `window`, of each wide client network: an IPv4 network of 24 bits, or an IPv6 network of 48
    /// bits. In addition to [`per_network`](Self::per_network), and several times as much: one customer of a provider
    /// has up to 65,536 networks of 64 bits.
    #[must_use]
    pub const fn per_wide_network(requests: u32, window: Duration) -> Self {
        Self::new(CountedBy::WideNetwork, requests, window)
    }

    const fn new(by: CountedBy, requests: u32, window: Duration) -> Self {
        let seconds = match window.as_secs() {
            0 => 1,
            seconds if seconds > LONGEST_WINDOW => LONGEST_WINDOW,
            seconds => seconds,
        };
        let requests = if requests == 0 { 1 } else { requests };
        Self {
            by,
            policy: None,
            across_routes: false,
            quota: Quota {
                requests,
                window: Duration::from_secs(seconds),
                burst: requests,
            },
        }
    }

    /// At most `requests` in any `window` for each key that the handler counts by, such as a session: see [`KeyedLimit`](super::KeyedLimit).
    ///
    /// As [`per_principal`](Self::per_principal) otherwise.
    #[must_use]
    pub const fn per_key(requests: u32, window: Duration) -> Self {
        Self::new(CountedBy::Key, requests, window)
    }

    /// The name of the policy in `RateLimit-Policy` and `RateLimit`, lower case: `login`. Without one it is whose requests are
    /// counted: `principal`, `network`, `wide_network`.
    #[must_use]
    pub const fn named(self, policy: &'static str) -> Self {
        Self {
            policy: Some(policy),
            ..self
        }
    }

    /// Counts together the requests to all routes of the module that declare this limit; otherwise each route counts its own.
    /// The [name](Self::named) says which limit it is.
    #[must_use]
    pub const fn across_routes(self) -> Self {
        Self {
            across_routes: true,
            ..self
        }
    }

    /// Lets `requests` come at once, more than the quota of a window. They come back as evenly.
    #[must_use]
    pub const fn burst(self, requests: u32) -> Self {
        let quota = self.quota;
        let burst = if requests > quota.requests {
            requests
        } else {
            quota.requests
        };
        Self {
            quota: Quota { burst, ..quota },
            ..self
        }
    }

    /// Whose requests it counts, as metrics name it.
    pub(super) const fn counted_by(self) -> &'static str {
        match self.by {
            CountedBy::Principal => "principal",
            CountedBy::Network => "network",
            CountedBy::WideNetwork => "wide_network",
            CountedBy::Key => "key",
        }
    }

    const fn name(self) -> &'static str {
        match self.policy {
            Some(policy) => policy,
            None => self.counted_by(),
        }
    }
}

/// The limits of a request, as they are counted.
#[derive(Default)]
pub(super) struct Limits(Vec<(RateLimit, Verdict)>);

impl From<(RateLimit, Verdict)> for Limits {
    fn from(counted: (RateLimit, Verdict)) -> Self {
        Self(vec![counted])
    }
}

impl Limits {
    /// Counts a request against the limits of its client's network.
    ///
    /// # Errors
    ///
    /// 429 `rate_limited`.
    pub(super) fn of_network(
        &mut self,
        request: &HttpRequest,
        rules: &RouteRules,
    ) -> Result<(), Problem> {
        let network = || http::origin(request).0.map(network);
        self.count(request, rules, CountedBy::Network, network)?;
        let wide = || http::origin(request).0.map(wide_network);
        self.count(request, rules, CountedBy::WideNetwork, wide)
    }

    /// Counts a request against the limits of its principal: its own, which is for all routes together, and that of the route.
    ///
    /// # Errors
    ///
    /// 429 `rate_limited`.
    pub(super) fn of_principal(
        &mut self,
        request: &HttpRequest,
        rules: &RouteRules,
        principal: &Principal,
    ) -> Result<(), Problem> {
        if let Some(own) = principal.limit() {
            let limit = RateLimit::per_key(own.requests, own.window).named(own.name);
            let limiter: Limiter = provided(request)?;
            let caller = (
                "all routes",
                limit.quota.window,
                principal.tenant,
                principal.session.unwrap_or(principal.id),
            );
            self.0.push((limit, limiter.count(caller, limit.quota)));
            self.refused(&rules.name)?;
        }
        let caller = || (principal.tenant, principal.id);
        self.count(request, rules, CountedBy::Principal, caller)
    }

    fn count<C: std::hash::Hash>(
        &mut self,
        request: &HttpRequest,
        rules: &RouteRules,
        by: CountedBy,
        caller: impl Fn() -> C,
    ) -> Result<(), Problem> {
        for limit in rules.limits.iter().filter(|limit| limit.by == by) {
            let limiter: Limiter = provided(request)?;
            let counted = if limit.across_routes {
                (rules.module.name(), limit.name())
            } else {
                (rules.name.as_str(), "")
            };
            let caller = (counted, limit.counted_by(), limit.quota.window, caller());
            let verdict = limiter.count(caller, limit.quota);
            self.0.push((*limit, verdict));
            self.refused(&rules.name)?;
        }
        Ok(())
    }

    /// Measures what the last limit says of a request to that route, and refuses it if it does.
    ///
    /// # Errors
    ///
    /// 429 `rate_limited`.
    pub(super) fn refused(&self, route: &str) -> Result<(), Problem> {
        let Some((limit, verdict)) = self.0.last() else {
            return Ok(());
        };
        let Some(wait) = verdict.refused_for else {
            return Ok(());
        };
        let (method, route) = route.split_once(' ').unwrap_or_default();
        let labels = [
            KeyValue::new("http.request.method", method.to_owned()),
            KeyValue::new("http.route", route.to_owned()),
            KeyValue::new("policy", limit.counted_by()),
        ];
        limited().add(1, &labels);
        let problem = LIMITED.problem().retry_after(wait);
        Err(self.headers().fold(problem, |problem, (name, value)| {
            problem.header(name, value)
        }))
    }

    /// Says in an answer what is left.
    pub(super) fn write(&self, response: &mut HttpResponse) {
        for (name, value) in self.headers() {
            // A handler may have a limit of its own, which comes first.
            let own = response.headers().get(&name).filter(|own| **own != value);
            let all = own.and_then(|own| {
                let both = [own.as_bytes(), b", ", value.as_bytes()].concat();
                HeaderValue::from_bytes(&both).ok()
            });
            response.headers_mut().insert(name, all.unwrap_or(value));
        }
    }

    /// Both headers, as structured fields (RFC 9651); none without a limit.
    fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let (mut policies, mut left) = (String::new(), String::new());
        for (place, (limit, verdict)) in self.0.iter().enumerate() {
            let separator = if place == 0 { "" } else { ", " };
            let (name, quota) = (limit.name(), limit.quota);
            let whole_in = verdict.whole_in.as_millis().div_ceil(1000);
            // Writing to a String cannot fail.
            write!(
                policies,
                "{separator}\"{name}\";q={};w={}",
                quota.requests,
                quota.window.as_secs()
            )
            .unwrap_or_default();
            write!(
                left,
                "{separator}\"{name}\";r={};t={whole_in}",
                verdict.left
            )
            .unwrap_or_default();
        }
        let headers = [(POLICY, policies), (LIMIT, left)].into_iter();
        headers
            .filter(|(_, value)| !value.is_empty())
            .filter_map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?)))
    }
}

/// Writes down what a route with limits answers.
pub(super) fn describe(operation: &mut Operation) {
    operation.needs::<Limiter>();
    operation.problem(LIMITED);
    for status in [200, 201, 202, 204]
        .into_iter()
        .filter_map(|code| StatusCode::from_u16(code).ok())
    {
        operation.answer_header(
            status,
            "RateLimit-Policy",
            "The limits that hold: requests `q` in `w` seconds.",
        );
        operation.answer_header(
            status,
            "RateLimit",
            "Remaining requests `r`, and seconds `t` until the quota is whole.",
        );
    }
}

/// What is counted as one client: a network of 64 bits is what one household gets (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

/// What is counted as one customer of a provider.
fn wide_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into()
        }
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            Ipv4Addr::new(a, b, c, 0).into()
        }
    }
}

fn limited() -> Counter<u64> {
    global::meter("dotmac.http")
        .u64_counter("dotmac.http.rate_limited")
        .with_description("Requests refused by a rate limit, by route and policy")
        .build()
}

#[cfg(test)]
mod tests;
