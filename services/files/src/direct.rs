//! Uploads whose parts clients send to the store themselves, by signed addresses: only where the store speaks S3.
//!
//! Each part is a blob of an upload, with its row before there is an address of it, and until after the address has ended: what
//! comes late is deleted like what came in time. Nothing is believed of what the client sent: once it says that all has come, the
//! parts are read, verified and written as one blob, like those of an upload in parts.

use std::time::Duration;

use dotmac_platform::{
    access::Principal,
    db::types::{Id, Moment},
};
use url::Url;

use crate::{
    FilesError, finishing,
    rules::{
        direct as rules,
        files::Create,
        uploads::{self as upload_rules, Upload},
    },
    service::Service,
    store::{
        blobs::{self, BlobId},
        files::{FileId, FileRow},
    },
    writing::permit,
};

/// The least bytes of a part that is not the last one, and the most parts.
const PART: u64 = 64 * 1024 * 1024;
const MOST_PARTS: u64 = 2000;

/// The longest that an address is good; a store may refuse one that is good for longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What a client says of a file that it will send.
pub(crate) struct Announcement {
    pub(crate) size: u64,
    pub(crate) sha256: String,
    pub(crate) create: Create,
}

/// A part that is to be sent.
pub(crate) struct Part {
    pub(crate) blob: BlobId,
    pub(crate) url: Url,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

/// Addresses for the parts of an upload, in their order.
///
/// # Errors
///
/// [`FilesError::NotDirect`] if the store is a directory; [`FilesError::TooLarge`].
pub(crate) async fn addresses(
    on: &Service,
    size: u64,
    expiry: Duration,
) -> Result<Vec<Part>, FilesError> {
    if !on.storage.signs() {
        return Err(FilesError::NotDirect);
    }
    let most = on.settings.max_size.bytes();
    if size > most {
        return Err(FilesError::TooLarge(most));
    }
    let mut parts = Vec::new();
    for (offset, size) in cut(size) {
        let blob = BlobId::new();
        let url = on.storage.signed_put(blob, expiry).await?;
        parts.push(Part {
            blob,
            url,
            offset,
            size,
        });
    }
    Ok(parts)
}

/// How long the addresses are good.
pub(crate) fn expiry(on: &Service) -> Duration {
    on.settings.upload_expiry.min(LONGEST)
}

/// Where the parts of so many bytes begin, and how many bytes each has.
fn cut(size: u64) -> impl Iterator<Item = (u64, u64)> {
    let part = PART.max(size.div_ceil(MOST_PARTS));
    let count = size.div_ceil(part);
    (0..count).map(move |number| {
        let offset = number * part;
        (offset, part.min(size - offset))
    })
}

/// Makes a file of an upload whose parts have all come. Asking again gives the same file.
///
/// # Errors
///
/// [`FilesError::NoUpload`]; [`FilesError::PartsMissing`]; [`FilesError::Taken`] while another request does so;
/// [`FilesError::DigestMismatch`] and [`FilesError::TypeMismatch`], after which the upload is gone.
pub(crate) async fn complete(
    on: &Service,
    who: &Principal,
    id: FileId,
) -> Result<FileRow, FilesError> {
    let scope = who.scope();
    let mut upload = match find(on, who, id).await? {
        Upload::File(row) => return Ok(row),
        Upload::Open(row) if row.sha256.is_none() => return Err(FilesError::NoUpload),
        Upload::Open(row) => row,
    };
    let _permit = permit(on)?;
    // An empty one has come from the beginning.
    let is_first = upload.received < upload.length || upload.length == 0;
    if upload.received < upload.length {
        let missing = missing(on, who, id).await?;
        if !missing.is_empty() {
            return Err(FilesError::PartsMissing(missing));
        }
        let db = on.db.tenant(&scope);
        let arrived = db.transaction("keep direct parts", async move |tx| {
            rules::arrived(tx, upload).await
        });
        upload = arrived.await?;
    }
    // Only one request at a time creates the file: the first one, or a later one once that has failed.
    let finished = async {
        if !is_first {
            finishing::claim(on, &scope, id).await?;
        }
        finishing::finish(on, &scope, upload, &|| {}).await
    };
    match finished.await {
        // Another request was faster.
        Err(error @ (FilesError::Lost | FilesError::Taken)) => match find(on, who, id).await? {
            Upload::File(row) => Ok(row),
            Upload::Open(_) => Err(error),
        },
        finished => finished,
    }
}

async fn find(on: &Service, who: &Principal, id: FileId) -> Result<Upload, FilesError> {
    let owner = Id::from_uuid(who.id);
    let db = on.db.tenant(&who.scope());
    let found = db.read("find upload", async move |tx| {
        upload_rules::find(tx, owner, id).await
    });
    found.await
}

/// The numbers of the parts, from 1 on, that are not in the store in their size.
async fn missing(on: &Service, who: &Principal, id: FileId) -> Result<Vec<usize>, FilesError> {
    let db = on.db.tenant(&who.scope());
    let listed = db.read("list parts", async move |tx| blobs::parts(tx, id).await);
    let mut missing = Vec::new();
    for (place, (blob, size)) in listed.await?.into_iter().enumerate() {
        let stored = on.storage.size(blob).await?;
        if stored.and_then(|stored| i64::try_from(stored).ok()) != Some(size) {
            missing.push(place + 1);
        }
    }
    Ok(missing)
}

/// Until when the rows of parts stay: clocks differ, and an answer may take its time.
pub(crate) fn url_until(now: Moment, expiry: Duration) -> Moment {
    now + expiry + Duration::from_secs(3600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_all_bytes_once() {
        for size in [0, 1, PART - 1, PART, PART + 1, 5 << 30, 5 << 40] {
            let parts: Vec<_> = cut(size).collect();
            let mut end = 0;
            for (offset, part) in &parts {
                assert_eq!(*offset, end, "{size}");
                assert!(*part > 0, "{size}");
                end += part;
            }
            assert_eq!(end, size);
            assert!(parts.len() as u64 <= MOST_PARTS, "{size}");
        }
    }
}
