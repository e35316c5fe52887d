//! Rules of uploads that continue with the next request.

use std::time::Duration;

use dotmac_platform::{
    audit::Audited,
    db::{
        TenantTx,
        types::{Json, Moment},
    },
};

use crate::{
    FilesError,
    rules::{
        files::{Create, Labels, create},
        settle, take,
    },
    service::{Quotas, bytes},
    store::{
        blobs::{self, BlobId},
        files::{self, FileId, FileRow},
        uploads::{self as store, UploadRow},
        usage::{Change, OwnerId},
    },
    upload::Facts,
};

/// The most uploads of one owner that are under way.
const MOST: i64 = 1000;

/// How long the request that makes a file of an upload may be silent before another one does.
pub(crate) const UNFINISHED: Duration = Duration::from_secs(60);

/// The most parts of one upload: a client that sends few bytes with each request makes as many as it has requests.
const MOST_PARTS: i64 = 10_000;

/// Begins an upload; its whole length is held of both quotas.
///
/// # Errors
///
/// [`FilesError::Quota`], [`FilesError::TooManyBegun`].
pub(crate) async fn begin(
    tx: &mut TenantTx,
    owner: OwnerId,
    (length, sha256): (u64, Option<String>),
    create: Create,
    (quotas, expiry): (Quotas, Duration),
) -> Result<UploadRow, FilesError> {
    let Create { labels, declared } = create;
    let Labels {
        name,
        folder,
        metadata,
    } = labels;
    if store::count(tx, owner).await? >= MOST {
        return Err(FilesError::TooManyBegun);
    }
    let now = Moment::now();
    let row = UploadRow {
        tenant_id: tx.tenant(),
        id: FileId::new(),
        owner_id: owner,
        length: bytes(length),
        received: 0,
        fence: 0,
        name,
        folder,
        metadata: Json(metadata),
        type_declared: declared,
        expires_at: now + expiry,
        touched_at: now,
        sha256,
    };
    store::insert(tx, row.clone()).await?;
    let change = Change {
        reserved: row.length,
        ..Change::default()
    };
    take(tx, owner, change, quotas).await?;
    Ok(row)
}

/// An upload as its client sees it.
#[derive(Clone, Debug)]
pub(crate) enum Upload {
    /// It is under way.
    Open(UploadRow),
    /// It has become a file: a client that did not get the last answer learns so.
    File(FileRow),
}

/// An upload of the caller, or the file that it has become.
///
/// # Errors
///
/// [`FilesError::NoUpload`], also for one of another user; [`FilesError::UploadExpired`].
pub(crate) async fn find(
    tx: &mut TenantTx,
    owner: OwnerId,
    id: FileId,
) -> Result<Upload, FilesError> {
    let found = store::find(tx, id).await?;
    if let Some(row) = found.filter(|row| row.owner_id == owner) {
        let is_expired = row.expires_at <= Moment::now() && row.received < row.length;
        return match is_expired {
            true => Err(FilesError::UploadExpired),
            false => Ok(Upload::Open(row)),
        };
    }
    let file = files::find(tx, id).await?;
    let file = file.filter(|row| row.owner_id == owner && row.deleted_at.is_none());
    file.map(Upload::File).ok_or(FilesError::NoUpload)
}

/// The same, if it is under way.
///
/// # Errors
///
/// As [`find`]; [`FilesError::State`] for one that has become a file.
pub(crate) async fn open(
    tx: &mut TenantTx,
    owner: OwnerId,
    id: FileId,
) -> Result<UploadRow, FilesError> {
    match find(tx, owner, id).await? {
        Upload::Open(row) => Ok(row),
        Upload::File(row) => Err(FilesError::State(row.state)),
    }
}

/// Continues an upload at `offset`; the request that had it can commit nothing more.
///
/// # Errors
///
/// As [`find`]; [`FilesError::Offset`] if it has come to another place; [`FilesError::TooManyParts`]; [`FilesError::Direct`].
pub(crate) async fn go_on(
    tx: &mut TenantTx,
    owner: OwnerId,
    id: FileId,
    offset: u64,
) -> Result<UploadRow, FilesError> {
    let row = match find(tx, owner, id).await? {
        Upload::Open(row) => row,
        Upload::File(row) => return Err(FilesError::Offset(row.size)),
    };
    if row.sha256.is_some() {
        return Err(FilesError::Direct);
    }
    if blobs::count_parts(tx, id).await? >= MOST_PARTS {
        return Err(FilesError::TooManyParts);
    }
    if !store::take(tx, id, bytes(offset)).await? {
        return Err(FilesError::Offset(row.received));
    }
    open(tx, owner, id).await
}

/// A part has come; the upload as it is now.
///
/// # Errors
///
/// [`FilesError::Taken`] if another request continues it; [`FilesError::Lost`] if the part was given up meanwhile.
pub(crate) async fn advance(
    tx: &mut TenantTx,
    seen: &UploadRow,
    blob: BlobId,
    size: u64,
) -> Result<UploadRow, FilesError> {
    let size = bytes(size);
    if !blobs::become_part(tx, blob, seen.id, (seen.received, size)).await? {
        return Err(FilesError::Lost);
    }
    let received = seen.received + size;
    if !store::advance(tx, seen, received).await? {
        return Err(FilesError::Taken);
    }
    Ok(UploadRow {
        received,
        ..seen.clone()
    })
}

/// Claims a complete upload, to create its file: one request at a time, since each writes all bytes again.
///
/// # Errors
///
/// [`FilesError::Taken`] if another request does, or has made the file.
pub(crate) async fn claim(tx: &mut TenantTx, id: FileId) -> Result<(), FilesError> {
    match store::claim(tx, id, Moment::now() - UNFINISHED).await? {
        true => Ok(()),
        false => Err(FilesError::Taken),
    }
}

/// Gives up making a file of an upload: the next request, or the sweep, does it.
///
/// # Errors
///
/// The database.
pub(crate) async fn disclaim(tx: &mut TenantTx, id: FileId) -> Result<(), FilesError> {
    Ok(store::touch(tx, id, Moment::now() - UNFINISHED).await?)
}

/// Creates the file of a complete upload, whose parts are one blob now.
///
/// # Errors
///
/// [`FilesError::Lost`] if there is one already.
pub(crate) async fn finish(
    tx: &mut TenantTx,
    upload: UploadRow,
    facts: Facts,
) -> Result<Audited<FileRow>, FilesError> {
    if !store::delete(tx, upload.id, upload.length).await? {
        return Err(FilesError::Lost);
    }
    blobs::drop_parts(tx, upload.id).await?;
    let change = Change {
        reserved: -upload.length,
        ..Change::default()
    };
    settle(tx, upload.owner_id, change).await?;
    let labels = Labels {
        name: upload.name,
        folder: upload.folder,
        metadata: upload.metadata.0,
    };
    let declared = upload.type_declared;
    create(tx, upload.id, facts, Create { labels, declared }).await
}

/// Ends an upload and gives back what it has.
///
/// # Errors
///
/// [`FilesError::Taken`] if it was continued since it was read.
pub(crate) async fn end(tx: &mut TenantTx, upload: &UploadRow) -> Result<(), FilesError> {
    if !store::delete(tx, upload.id, upload.received).await? {
        return Err(FilesError::Taken);
    }
    blobs::drop_parts(tx, upload.id).await?;
    let change = Change {
        reserved: -upload.length,
        ..Change::default()
    };
    settle(tx, upload.owner_id, change).await
}
