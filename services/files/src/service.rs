//! State that handlers and workers share.

use std::{
    ops::Deref,
    sync::{Arc, PoisonError},
};

use dotmac_platform::{
    db::{Db, ModuleDb, TenantScope},
    settings::ByteSize,
    supervision::Reason,
};
use tokio::sync::{Mutex, Semaphore, mpsc};

use crate::{
    FilesError, FilesSettings,
    error::QuotaOf,
    metrics::{self, Found},
    scanner::Scanner,
    storage::{Storage, Writer},
    store::blobs::BlobId,
};

/// Uploads that were cut off and wait to be cleared away. What finds no place waits for the sweep.
const MOST_ABANDONED: usize = 1024;

/// Clones share it.
#[derive(Clone)]
pub(crate) struct Service(Arc<Inner>);

pub(crate) struct Inner {
    /// For work of a tenant.
    pub(crate) db: ModuleDb,
    /// For work on the rows of all tenants.
    pub(crate) system: Db,
    pub(crate) settings: FilesSettings,
    pub(crate) storage: Storage,
    /// What scans files for viruses, if they are scanned.
    pub(crate) scanner: Option<Scanner>,
    /// A permit for each upload that may be under way.
    pub(crate) uploads: Arc<Semaphore>,
    /// Why the store was not available when it was last probed.
    storage_reason: LastReason,
    /// Why clamd was not.
    scanner_reason: LastReason,
    /// What the last check found.
    pub(crate) found: Found,
    abandoned: mpsc::Sender<Abandoned>,
    /// Taken by the worker that clears away, in each of its lives.
    pub(crate) to_clear: Mutex<mpsc::Receiver<Abandoned>>,
}

/// An upload whose handler is gone.
pub(crate) struct Abandoned {
    pub(crate) scope: TenantScope,
    pub(crate) blob: BlobId,
    pub(crate) writer: Option<Writer>,
}

impl Service {
    pub(crate) fn new(db: ModuleDb, settings: FilesSettings, storage: Storage) -> Self {
        let system = db.system("keep the store of files as the tables say");
        let (abandoned, to_clear) = mpsc::channel(MOST_ABANDONED);
        let uploads = Arc::new(Semaphore::new(settings.max_uploads));
        let found = Found::default();
        let address = settings.clamd();
        let scanner = address.map(|address| Scanner::new(address, settings.scan_timeout));
        metrics::observe(&uploads, settings.max_uploads, &found);
        Self(Arc::new(Inner {
            db,
            system,
            settings,
            storage,
            scanner,
            uploads,
            storage_reason: LastReason::default(),
            scanner_reason: LastReason::default(),
            found,
            abandoned,
            to_clear: Mutex::new(to_clear),
        }))
    }

    /// Has an upload cleared away whose handler ends now.
    pub(crate) fn abandon(&self, abandoned: Abandoned) {
        if self.0.abandoned.try_send(abandoned).is_err() {
            tracing::debug!("an interrupted upload waits for the sweep");
        }
    }

    /// Notes how the store is; whether that is news.
    pub(crate) fn is_new_state(&self, reason: Option<Reason>) -> bool {
        self.storage_reason.is_new(reason)
    }

    /// The same of clamd.
    pub(crate) fn is_new_scanner_state(&self, reason: Option<Reason>) -> bool {
        self.scanner_reason.is_new(reason)
    }

    /// The quotas, in bytes.
    pub(crate) fn quotas(&self) -> Quotas {
        Quotas {
            tenant: whole(self.settings.tenant_quota),
            user: whole(self.settings.user_quota),
        }
    }
}

/// How something was when it was last asked; `None` before the first time.
#[derive(Default)]
struct LastReason(std::sync::Mutex<Option<Option<Reason>>>);

impl LastReason {
    fn is_new(&self, reason: Option<Reason>) -> bool {
        let last = self.0.lock();
        let last = last.unwrap_or_else(PoisonError::into_inner).replace(reason);
        last.map_or(reason.is_some(), |last| last != reason)
    }
}

impl Deref for Service {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// How many bytes a tenant and each of its users may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quotas {
    pub(crate) tenant: i64,
    pub(crate) user: i64,
}

impl Quotas {
    /// The refusal of what exceeds one.
    pub(crate) const fn exceeded(of: QuotaOf) -> FilesError {
        FilesError::Quota(of)
    }
}

fn whole(size: ByteSize) -> i64 {
    bytes(size.bytes())
}

/// A number of bytes as the database has it.
pub(crate) fn bytes(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
