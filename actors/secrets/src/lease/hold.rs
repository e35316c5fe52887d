//! A consumer's hold on a lease: while it exists, the lease is not revoked.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use crate::{SecretFeed, instruments::Rotated, vault::Lease};

/// Keeps a lease, and says what its consumer makes of it. The last clone to go gives the lease back.
#[derive(Clone)]
pub struct LeaseHold(Arc<Held>);

struct Held {
    _lease: Arc<Lease>,
    report: Option<Report>,
    taken: AtomicBool,
    refused: AtomicBool,
}

/// Where to say it, under which name, and for which setting.
pub(crate) struct Report {
    pub(crate) feed: SecretFeed,
    pub(crate) secret: &'static str,
    pub(crate) key: String,
}

impl LeaseHold {
    pub(crate) fn new(lease: Arc<Lease>, report: Option<Report>) -> Self {
        Self(Arc::new(Held {
            _lease: lease,
            report,
            taken: AtomicBool::new(false),
            refused: AtomicBool::new(false),
        }))
    }

    /// Whether it keeps the same lease as `other`.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether the credentials were refused after they had worked.
    pub(crate) fn is_refused(&self) -> bool {
        self.0.refused.load(Relaxed)
    }

    /// The credentials are in use.
    pub fn taken(&self) {
        if let Some(report) = &self.0.report
            && !self.0.taken.swap(true, Relaxed)
        {
            report
                .feed
                .instruments()
                .rotated(report.secret, Rotated::Applied);
        }
    }

    /// The credentials were refused where they are used. Ones that worked before must have been taken
    /// away, so others are asked for at once; ones that never did are the consumer's to try again.
    pub fn refused(&self) {
        let Some(report) = &self.0.report else { return };
        if self.0.taken.load(Relaxed) {
            self.0.refused.store(true, Relaxed);
            report.feed.refuse(&report.key);
        } else {
            report
                .feed
                .instruments()
                .rotated(report.secret, Rotated::Refused);
        }
    }
}

impl fmt::Debug for LeaseHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeaseHold")
    }
}
