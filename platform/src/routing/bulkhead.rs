//! How many requests of one module may be under way at a time, so that one which hangs starves no other.
//!
//! A module has its share of all requests that can be under way, which are as many as connections are served
//! (`DOTMAC_HTTP_MAX_CONNECTIONS`). Beyond it requests are refused at once (503 `module_overloaded`), before their
//! credentials are checked. A request is under way until the head of its answer is there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use dotmac_db::Share;
use opentelemetry::{KeyValue, global};

use super::ProblemType;
use crate::http::Problem;

pub(super) const OVERLOADED: ProblemType = ProblemType::new(
    503,
    "module_overloaded",
    "too many requests to this service are under way",
);

/// When another request may be let through: requests take far less, and a hang far more.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The requests of one module that are under way.
#[derive(Debug)]
pub(crate) struct ModuleRequests {
    module: &'static str,
    share: Share,
    most: AtomicUsize,
    under_way: AtomicUsize,
    refused: AtomicU64,
}

/// What one module has of the requests now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestLoad {
    pub(crate) module: &'static str,
    pub(crate) under_way: usize,
    pub(crate) most: usize,
    pub(crate) refused: u64,
}

/// A place among the module's requests; free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<ModuleRequests>);

impl ModuleRequests {
    /// Without a bound until [`bound`](Self::bound) says how many requests there can be.
    pub(crate) fn new(module: &'static str, share: Share) -> Arc<Self> {
        Arc::new(Self {
            module,
            share,
            most: AtomicUsize::new(usize::MAX),
            under_way: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Lets the module have its share of so many requests.
    pub(crate) fn bound(&self, requests: usize) {
        self.most.store(self.share.of(requests), Relaxed);
    }

    /// A place for one more request.
    ///
    /// # Errors
    ///
    /// 503 `module_overloaded` if the module has its share.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Place, Problem> {
        let place = Place(Arc::clone(self));
        if self.under_way.fetch_add(1, Relaxed) < self.most.load(Relaxed) {
            return Ok(place);
        }
        drop(place);
        self.refused.fetch_add(1, Relaxed);
        let cause = format!("module `{}` uses its whole share of requests", self.module);
        Err(OVERLOADED
            .problem()
            .retry_after(RETRY_AFTER)
            .caused_by(cause))
    }

    /// The name of the module.
    pub(super) const fn name(&self) -> &'static str {
        self.module
    }

    pub(crate) fn load(&self) -> RequestLoad {
        RequestLoad {
            module: self.module,
            under_way: self.under_way.load(Relaxed),
            most: self.most.load(Relaxed),
            refused: self.refused.load(Relaxed),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Relaxed);
    }
}

/// Shows the load of each module.
pub(crate) fn observe(modules: &[Arc<ModuleRequests>]) {
    let meter = global::meter("dotmac.http");
    let loads = {
        let modules = modules.to_vec();
        move || {
            modules
                .iter()
                .map(|module| module.load())
                .collect::<Vec<_>>()
        }
    };
    let (under_way, most, refused) = (loads.clone(), loads.clone(), loads);
    let label = |load: &RequestLoad| [KeyValue::new("module", load.module)];
    meter
        .u64_observable_gauge("dotmac.http.module.requests")
        .with_description("Requests under way by module")
        .with_callback(move |gauge| {
            for load in under_way() {
                gauge.observe(load.under_way as u64, &label(&load));
            }
        })
        .build();
    meter
        .u64_observable_gauge("dotmac.http.module.requests.max")
        .with_description("Limit of requests under way, by module")
        .with_callback(move |gauge| {
            for load in most() {
                gauge.observe(load.most as u64, &label(&load));
            }
        })
        .build();
    meter
        .u64_observable_counter("dotmac.http.module.refused")
        .with_description("Requests refused because their module used its whole share")
        .with_callback(move |counter| {
            for load in refused() {
                counter.observe(load.refused, &label(&load));
            }
        })
        .build();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_has_its_share_and_a_place_that_is_left_is_free_again() {
        let requests = ModuleRequests::new("notes", Share::HALF);
        requests.bound(4);
        let (first, second) = (requests.enter(), requests.enter());
        assert!(first.is_ok() && second.is_ok());
        assert!(requests.enter().is_err() && requests.enter().is_err());
        drop(first);
        assert!(requests.enter().is_ok());
        drop(second);
        let load = requests.load();
        assert_eq!((load.under_way, load.most, load.refused), (0, 2, 2));
    }

    #[test]
    fn of_any_share_there_is_at_least_one_request() {
        let requests = ModuleRequests::new("notes", Share::percent(1));
        requests.bound(1);
        assert!(requests.enter().is_ok());
    }
}
