//! Errors of the store.

use std::{error::Error, io, time::Duration};

use dotmac_platform::{module::WorkerError, supervision::Reason};

/// The store or its disk has no space left.
pub(crate) const FULL: Reason = Reason::new("storage_full");
/// The store refuses the keys, or what they may do.
pub(crate) const REFUSED: Reason = Reason::new("storage_refused");
/// The directory, the bucket or the store cannot be reached, read or written.
pub(crate) const UNUSABLE: Reason = Reason::new("storage_unusable");

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StorageError {
    /// The directory.
    #[error("failed to use the directory of files")]
    Io(#[from] io::Error),
    /// The store.
    #[error("failed to use the store of files")]
    Store(#[from] object_store::Error),
    /// There are no keys for it.
    #[error("there are no keys for the store of files")]
    NoKeys,
    /// A directory has no addresses by which clients write to it.
    #[error("the store of files has no addresses for clients")]
    NoAddresses,
    /// It took too long.
    #[error("the store of files did not answer within {0:?}")]
    TimedOut(Duration),
    /// What was read is not what was written.
    #[error("the store of files loses written data")]
    Changed,
}

impl StorageError {
    /// In one word.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::NoKeys
            | Self::Store(
                object_store::Error::PermissionDenied { .. }
                | object_store::Error::Unauthenticated { .. },
            ) => REFUSED,
            error if is_full(error) => FULL,
            _ => UNUSABLE,
        }
    }

    /// Whether the bytes are not there.
    pub(crate) const fn is_absent(&self) -> bool {
        matches!(self, Self::Store(object_store::Error::NotFound { .. }))
    }
}

impl WorkerError for StorageError {
    fn upstream(&self) -> Option<Reason> {
        Some(self.reason())
    }
}

/// Whether any of the causes is that no space is left.
fn is_full(error: &StorageError) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        let kind = io.map(io::Error::kind);
        if matches!(
            kind,
            Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        ) {
            return true;
        }
        cause = error.source();
    }
    false
}
