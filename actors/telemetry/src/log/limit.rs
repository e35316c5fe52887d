//! A limit on the lines of each place in the code that logs, so that one of them cannot drown the rest.
//!
//! Each place may log so many lines a second; what is more is counted, and [`Limiter::tell`] says how
//! much that was. The access log is exempt, which is bounded by the requests, and so is evidence.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use dotmac_supervision::EVIDENCE;
use tracing::{
    Event, Metadata, Subscriber,
    callsite::Identifier,
    span::{Attributes, Id, Record},
    warn,
};
use tracing_subscriber::layer::{Context, Layer};

/// Target of the access log.
pub(crate) const ACCESS: &str = "dotmac::access";

/// Target of the lines about suppressed lines, which are exempt as well.
const SUPPRESSED: &str = "dotmac::suppressed";

/// The limit of one log output. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Limiter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Lines a second for each place; 0 for no limit.
    limit: u32,
    begun: Instant,
    sites: RwLock<HashMap<Identifier, Arc<Site>>>,
}

/// One place in the code that logs.
#[derive(Debug)]
struct Site {
    meta: &'static Metadata<'static>,
    /// The second that `lines` belongs to.
    second: AtomicU64,
    lines: AtomicU32,
    suppressed: AtomicU64,
}

impl Limiter {
    /// Lets each place log `limit` lines a second; 0 lets it log what it likes.
    pub(crate) fn new(limit: u32) -> Self {
        Self(Arc::new(Shared {
            limit,
            begun: Instant::now(),
            sites: RwLock::default(),
        }))
    }

    /// Logs for each place how many of its lines were suppressed, if there are any and it is quiet by now.
    pub(crate) fn report(&self) {
        let now = self.second();
        let sites = self.0.sites.read().unwrap_or_else(PoisonError::into_inner);
        let ended = |site: &&Arc<Site>| site.second.load(Relaxed) < now;
        let reported: Vec<_> = sites
            .values()
            .filter(ended)
            .map(|site| (site.meta, site.suppressed.swap(0, Relaxed)))
            .filter(|(_, lines)| *lines > 0)
            .collect();
        // Logging asks the limiter: not while its table is locked.
        drop(sites);
        for (meta, suppressed) in reported {
            warn!(
                target: SUPPRESSED,
                suppressed,
                site.target = meta.target(),
                site.file = meta.file(),
                site.line = meta.line(),
                "suppressed {suppressed} lines of one place in the code"
            );
        }
    }

    fn admits(&self, meta: &'static Metadata<'static>) -> bool {
        if self.0.limit == 0 || matches!(meta.target(), ACCESS | SUPPRESSED | EVIDENCE) {
            return true;
        }
        let site = self.site(meta);
        let now = self.second();
        if site.second.swap(now, Relaxed) != now {
            // Two threads may both begin the second: then it has room for some more.
            site.lines.store(0, Relaxed);
        }
        let admitted = site.lines.fetch_add(1, Relaxed) < self.0.limit;
        if !admitted {
            site.suppressed.fetch_add(1, Relaxed);
        }
        admitted
    }

    fn site(&self, meta: &'static Metadata<'static>) -> Arc<Site> {
        let id = meta.callsite();
        let sites = self.0.sites.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(site) = sites.get(&id) {
            return Arc::clone(site);
        }
        drop(sites);
        let mut sites = self.0.sites.write().unwrap_or_else(PoisonError::into_inner);
        let site = sites.entry(id).or_insert_with(|| {
            Arc::new(Site {
                meta,
                second: AtomicU64::new(0),
                lines: AtomicU32::new(0),
                suppressed: AtomicU64::new(0),
            })
        });
        Arc::clone(site)
    }

    /// Counted from 1, so that no site has seen the first one.
    fn second(&self) -> u64 {
        self.0.begun.elapsed().as_secs() + 1
    }
}

/// A log output that gets only admitted lines of its limiter.
///
/// Not a filter: one that decides event by event trips an assertion of tracing-subscriber 0.3.23.
pub(crate) struct Limited<L>(pub(crate) L, pub(crate) Limiter);

impl<S: Subscriber, L: Layer<S>> Layer<S> for Limited<L> {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.0.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.0.on_record(id, values, context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if self.1.admits(event.metadata()) {
            self.0.on_event(event, context);
        }
    }
}
