//! The contract by which services read files of a tenant: what a mail has attached to it, what an import is given.
//!
//! The module that keeps files fulfils it by sharing a [`SharedFileReader`]; others ask for it with
//! [`Mount::later`](crate::module::Mount::later).

use std::sync::Arc;

use dotmac_db::{DbError, TenantScope, TenantTx};
use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::access::Principal;

/// What is known of a file that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFacts {
    /// Its id.
    pub id: Uuid,
    /// Its name: NFC, without control characters.
    pub name: String,
    /// Its size, in bytes.
    pub size: u64,
    /// Its media type, as it was found out from its bytes.
    pub media_type: String,
}

/// A file that was read as a whole. What was stored of its hash and size was compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileContent {
    /// What is known of it.
    pub facts: FileFacts,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FileReadError {
    /// There is no such file of the tenant, or it was deleted.
    #[error("there is no such file")]
    NotFound,
    /// It was not checked to its end, or is not to be read: `scanning`, `quarantined`.
    #[error("the file is `{0}`")]
    NotReady(String),
    /// It is larger than its reader takes.
    #[error("the file has {0} bytes")]
    TooLarge(u64),
    /// Its bytes are not those that were stored.
    #[error("the bytes of the file are not those that were stored")]
    Damaged,
    /// Its bytes cannot be read now; another time they may.
    #[error("the store of files is not available: {0}")]
    Unavailable(String),
    /// The database did not do it.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Reads files of tenants.
pub trait FileReader: Send + Sync + 'static {
    /// Whether the caller may read the files of its tenant.
    fn may_read(&self, who: &Principal) -> bool;

    /// What is known of a file of the transaction's tenant, if it can be read.
    ///
    /// # Errors
    ///
    /// [`FileReadError`].
    fn find<'c>(
        &'c self,
        tx: &'c mut TenantTx,
        file: Uuid,
    ) -> BoxFuture<'c, Result<FileFacts, FileReadError>>;

    /// All of a file of that tenant, of at most `most` bytes. Not within a transaction: the bytes may be on another machine.
    ///
    /// # Errors
    ///
    /// [`FileReadError`].
    fn read<'c>(
        &'c self,
        scope: &'c TenantScope,
        file: Uuid,
        most: u64,
    ) -> BoxFuture<'c, Result<FileContent, FileReadError>>;
}

/// A [`FileReader`] as modules share it: `on.share::<SharedFileReader>(Arc::new(…))`.
pub type SharedFileReader = Arc<dyn FileReader>;
