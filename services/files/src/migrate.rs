//! Copies the bytes of all blobs from one store into another: `dotmac files migrate`.
//!
//! It may be ended, also killed, and repeated at any time: what is there already, in its size, is not copied again, and what a copy
//! that was cut off has left is deleted first. The rows say which bytes there are to be and of which hash, so what is copied is
//! verified, and nothing is copied that belongs to no file.

use dotmac_platform::db::TenantId;
use futures_util::TryStreamExt as _;

use crate::{
    FilesError,
    digest::Hasher,
    service::Service,
    storage::Storage,
    store::{
        blobs::{self, BlobId, BlobRow, DROPPING},
        files, renditions, versions,
    },
};

/// Rows that are read at once.
const BATCH: i64 = 500;

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Blobs that were copied.
    pub(crate) copied: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Blobs that were there already.
    pub(crate) present: u64,
    /// Blobs whose bytes are not in the store before, or are others than were written.
    pub(crate) failed: Vec<BlobId>,
}

enum Copied {
    Bytes(u64),
    Present,
    Failed,
}

/// Copies everything into the store of the service.
///
/// # Errors
///
/// A store or the database did not answer.
pub(crate) async fn run(on: &Service, from: &Storage) -> Result<Report, FilesError> {
    let (mut report, mut after) = (Report::default(), None);
    loop {
        let rows = on.system.read("list blobs", async move |c| {
            blobs::stored_after(c, after, BATCH).await
        });
        let rows = rows.await?;
        let Some(last) = rows.last() else {
            return Ok(report);
        };
        after = Some(last.id);
        for row in rows {
            match copy(on, from, &row).await? {
                Copied::Bytes(bytes) => {
                    report.copied += 1;
                    report.bytes += bytes;
                }
                Copied::Present => report.present += 1,
                Copied::Failed => report.failed.push(row.id),
            }
        }
    }
}

async fn copy(on: &Service, from: &Storage, row: &BlobRow) -> Result<Copied, FilesError> {
    let size = u64::try_from(row.size).unwrap_or_default();
    if on.storage.size(row.id).await? == Some(size) {
        return Ok(Copied::Present);
    }
    let hash = hash_of(on, row.tenant_id, row.id).await?;
    let mut pieces = match from.read(row.id, 0..size).await {
        Ok(pieces) => pieces,
        Err(error) if error.is_absent() => return failed_unless_gone(on, row).await,
        Err(error) => return Err(error.into()),
    };
    // A copy that was killed may have left a part of it under another name.
    on.storage.delete(row.id).await?;
    let mut writer = on.storage.writer(row.id).await?;
    let (mut hasher, mut copied) = (Hasher::new(), 0);
    loop {
        let piece = match pieces.try_next().await {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            Err(error) => {
                writer.abort().await?;
                return Err(error.into());
            }
        };
        hasher.read(&piece);
        copied += piece.len() as u64;
        if let Err(error) = writer.write(piece).await {
            writer.abort().await?;
            return Err(error.into());
        }
    }
    let found = hasher.finish().hex();
    if copied != size || hash.is_some_and(|hash| hash != found) {
        writer.abort().await?;
        return Ok(Copied::Failed);
    }
    writer.finish().await?;
    if is_gone(on, row).await? {
        on.storage.delete(row.id).await?;
    }
    Ok(Copied::Bytes(copied))
}

/// The hash that a file, a version or a rendition has of a blob; `None` of a part of an upload.
async fn hash_of(
    on: &Service,
    tenant: TenantId,
    blob: BlobId,
) -> Result<Option<String>, FilesError> {
    let found = on.system.read("find hash of blob", async move |c| {
        if let Some(hash) = files::hash_of(c, tenant, blob).await? {
            return Ok::<_, FilesError>(Some(hash));
        }
        match versions::hash_of(c, tenant, blob).await? {
            Some(hash) => Ok(Some(hash)),
            None => Ok(renditions::hash_of(c, tenant, blob).await?),
        }
    });
    found.await
}

async fn failed_unless_gone(on: &Service, row: &BlobRow) -> Result<Copied, FilesError> {
    match is_gone(on, row).await? {
        true => Ok(Copied::Present),
        false => Ok(Copied::Failed),
    }
}

/// Whether the blob was deleted since it was listed.
async fn is_gone(on: &Service, row: &BlobRow) -> Result<bool, FilesError> {
    let (tenant, id) = (row.tenant_id, row.id);
    let found = on
        .system
        .read("find blob", async move |c| blobs::find(c, tenant, id).await);
    Ok(found.await?.is_none_or(|row| row.state == DROPPING))
}
