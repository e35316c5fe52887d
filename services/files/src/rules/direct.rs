//! Rules of uploads whose parts go to the store.

use std::time::Duration;

use dotmac_platform::db::{TenantTx, types::Moment};

use crate::{
    FilesError,
    direct::{Announcement, Part, url_until},
    rules::uploads,
    service::{Quotas, bytes},
    store::{
        blobs::{self, BlobRow, WRITING},
        uploads::{self as store, UploadRow},
        usage::OwnerId,
    },
};

/// Begins an upload with the rows of all its parts: each its blob, its place and its size.
///
/// # Errors
///
/// As [`uploads::begin`].
pub(crate) async fn begin(
    tx: &mut TenantTx,
    owner: OwnerId,
    announcement: Announcement,
    parts: &[Part],
    terms: (Quotas, Duration),
) -> Result<UploadRow, FilesError> {
    let (now, expiry) = (Moment::now(), terms.1);
    let announced = (announcement.size, Some(announcement.sha256));
    let upload = uploads::begin(tx, owner, announced, announcement.create, terms).await?;
    for part in parts {
        let (blob, place) = (part.blob, (bytes(part.offset), bytes(part.size)));
        let row = BlobRow {
            tenant_id: tx.tenant(),
            id: blob,
            owner_id: owner,
            state: WRITING.to_owned(),
            size: place.1,
            refs: 0,
            reserved: 0,
            lease_until: now,
            created_at: now,
        };
        blobs::insert(tx, row).await?;
        blobs::become_part(tx, blob, upload.id, place).await?;
    }
    blobs::sign_parts(tx, upload.id, url_until(now, expiry)).await?;
    Ok(upload)
}

/// All parts have come.
///
/// # Errors
///
/// [`FilesError::Taken`] if another request says so just now.
pub(crate) async fn arrived(tx: &mut TenantTx, upload: UploadRow) -> Result<UploadRow, FilesError> {
    if !store::advance(tx, &upload, upload.length).await? {
        return Err(FilesError::Taken);
    }
    Ok(UploadRow {
        received: upload.length,
        ..upload
    })
}
