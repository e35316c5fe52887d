//! Calls to the outside: the one client for webhooks, identity providers, object stores and all other outgoing calls of
//! modules.
//!
//! Otherwise a client that chooses a URL could make this process call addresses that only it can reach (server-side
//! request forgery): its own machine, the private network, a cloud's metadata service. So each attempt resolves the
//! name, judges **all** addresses, and connects to just these; a name that means something else a moment later changes
//! nothing. A connection that is open still is used again only by a call for which the very addresses were judged that
//! it was opened for.
//!
//! A module gets it by [`Mount::egress`](crate::module::Mount::egress), a handler as
//! [`Use<Egress>`](crate::routing::Use).
//!
//! ```
//! # use dotmac_platform::egress::{Egress, EgressError};
//! # async fn deliver(egress: &Egress, url: &str) -> Result<(), EgressError> {
//! match egress.post(url).json(&serde_json::json!({"event": "note.added"})).send().await {
//!     Ok(answer) if answer.status.is_success() => {}
//!     Ok(answer) => tracing::info!(status = answer.status.as_u16(), "the receiver refuses"),
//!     Err(error) if error.is_retryable() => return Err(error), // again later
//!     Err(error) => tracing::warn!(code = error.code(), "never again: {error}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! `docs/egress.md` has its guarantees, setting by setting.

mod address;
mod error;
mod exchange;
mod lookup;
mod measure;
mod policy;
mod pool;
mod request;
mod slots;
mod span;
#[cfg(test)]
mod tests;
mod tls;

use std::{path::PathBuf, sync::Arc, time::Duration};

use url::Url;

pub use address::AddressClass;
pub use error::EgressError;
pub use request::{EgressAnswer, EgressRequest};
pub use reqwest::{
    Method, StatusCode,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};

pub(crate) use policy::Policy;

use lookup::{Lookup, SystemLookup};
use pool::Pool;
use slots::Slots;
use tls::Tls;

/// The configuration of outgoing calls.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) policy: Policy,
    pub(crate) timeout: Duration,
    pub(crate) answer_limit: usize,
    pub(crate) per_host: usize,
    pub(crate) concurrency: usize,
    pub(crate) proxy: Option<Url>,
    pub(crate) ca_cert: Option<PathBuf>,
}

/// The client for calls to the outside. Clones are the same: their calls count together.
#[derive(Clone)]
pub struct Egress(Arc<Inner>);

struct Inner {
    config: Config,
    lookup: Box<dyn Lookup>,
    slots: Arc<Slots>,
    pool: Pool,
    tls: Tls,
}

impl Egress {
    /// Opens and reads nothing before the first call.
    pub(crate) fn new(config: Config) -> Self {
        Self::with_lookup(config, SystemLookup::new())
    }

    fn with_lookup(config: Config, lookup: impl Lookup + 'static) -> Self {
        Self(Arc::new(Inner {
            slots: Slots::new(config.per_host, config.concurrency),
            pool: Pool::new(config.per_host, config.concurrency),
            tls: Tls::new(config.ca_cert.clone()),
            lookup: Box::new(lookup),
            config,
        }))
    }

    /// Shows its metrics from now on, for a program in which a module calls out.
    pub(crate) fn measure(&self) {
        measure::register();
    }

    /// Files and sockets that its calls have open at the most: each has two sockets while it tries an address of either
    /// family, a name that takes long to look up may outlive its call, and connections are kept for calls to come.
    pub(crate) fn most_descriptors(&self) -> usize {
        let calls = self.0.config.concurrency.saturating_mul(2);
        calls
            .saturating_add(lookup::LOOKUPS)
            .saturating_add(self.0.pool.most_idle())
    }

    /// A call of `url` by `method`; nothing is sent before [`EgressRequest::send`], which reports a URL that is none.
    pub fn request(&self, method: Method, url: impl AsRef<str>) -> EgressRequest {
        EgressRequest::new(self.clone(), method, url.as_ref())
    }

    /// A `GET` of `url`.
    pub fn get(&self, url: impl AsRef<str>) -> EgressRequest {
        self.request(Method::GET, url)
    }

    /// A `POST` to `url`.
    pub fn post(&self, url: impl AsRef<str>) -> EgressRequest {
        self.request(Method::POST, url)
    }

    /// Whether `url` could be called as far as known without a DNS lookup: for an immediate answer to the client that
    /// sets it. That its name has public addresses is judged at each call.
    ///
    /// # Errors
    ///
    /// [`EgressError`], none of which is retryable.
    pub fn check_url(&self, url: impl AsRef<str>) -> Result<(), EgressError> {
        let destination = policy::Destination::of(&policy::read_url(url.as_ref())?)?;
        match destination.literal {
            Some(address) => self.0.config.policy.judge(&destination, &[address]),
            None => Ok(()),
        }
    }
}
