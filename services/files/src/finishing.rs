//! Creates the files of uploads that came in parts, and ends such uploads.
//!
//! The parts are read again, hashed and written as one blob: the hash is that of what is stored. One request does so at a time.

use std::time::Duration;

use bytes::Bytes;
use dotmac_platform::{
    audit::Acts as _,
    db::{TenantId, TenantScope, types::Moment},
    http::Problem,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use tokio::{pin, time::timeout};

use crate::{
    FilesError,
    digest::{Announced, Sha256},
    metrics::{self, Outcome},
    rules::uploads as rules,
    service::Service,
    storage::StorageError,
    store::{
        blobs::{self, BlobId},
        files::{FileId, FileRow},
        uploads::{self, UploadRow},
    },
    upload::{Facts, Intent, Pieces, fill},
    writing::Writing,
};

/// Parts that are deleted with one transaction, and at once.
const DROPPED: usize = 256;
const DELETES: usize = 8;

/// How often a request that creates the file of an upload touches its row.
const TOUCH: Duration = Duration::from_secs(10);

/// Claims an upload that an earlier request completed, so that the caller may [`finish`] it.
///
/// # Errors
///
/// [`FilesError::Taken`] if another request creates its file, or has created it.
pub(crate) async fn claim(on: &Service, scope: &TenantScope, id: FileId) -> Result<(), FilesError> {
    let db = on.db.tenant(scope);
    let claimed = db.transaction("claim upload", async move |tx| rules::claim(tx, id).await);
    claimed.await
}

/// Creates the file of a complete upload, which the caller has claimed or completed. Its parts are read, verified and written as
/// one blob; `beat` is called meanwhile. After an error another request may do so at once, unless the outcome is unknown.
///
/// # Errors
///
/// [`FilesError::TypeMismatch`] and [`FilesError::DigestMismatch`], after which the upload is gone; [`FilesError::Lost`] if another
/// request made the file.
pub(crate) async fn finish(
    on: &Service,
    scope: &TenantScope,
    upload: UploadRow,
    beat: &(dyn Fn() + Sync),
) -> Result<FileRow, FilesError> {
    let id = upload.id;
    let finished = create(on, scope, upload, beat).await;
    if let Err(error) = &finished
        && !error.is_outcome_unknown()
        && !is_refused(error)
    {
        disclaim(on, scope, id).await;
    }
    finished
}

async fn create(
    on: &Service,
    scope: &TenantScope,
    upload: UploadRow,
    beat: &(dyn Fn() + Sync),
) -> Result<FileRow, FilesError> {
    let (db, id) = (on.db.tenant(scope), upload.id);
    let listed = db.read("list parts", async move |tx| blobs::parts(tx, id).await);
    let parts = listed.await?;
    let mut writing = Writing::of_part(on, scope, upload.owner_id).await?;
    let verified = verify(&mut writing, &upload, &parts, beat).await;
    let facts = match verified {
        Ok(facts) => facts,
        Err(error) => {
            writing.give_up().await;
            if is_refused(&error) {
                metrics::uploaded(Outcome::Refused);
                end(on, scope, upload).await?;
            } else {
                metrics::uploaded(Outcome::Failed);
            }
            return Err(error);
        }
    };
    let finished = db.act("finish upload", async move |tx| {
        rules::finish(tx, upload, facts).await
    });
    match finished.await {
        Ok(row) => {
            writing.kept();
            metrics::uploaded(Outcome::Ok);
            drop_all(on, scope, parts).await;
            Ok(row)
        }
        Err(error) if error.is_outcome_unknown() => {
            writing.kept();
            Err(error)
        }
        Err(error) => {
            writing.give_up().await;
            Err(error)
        }
    }
}

/// Lets others make a file of an upload at once. What the database does not do now time does.
async fn disclaim(on: &Service, scope: &TenantScope, id: FileId) {
    let db = on.db.tenant(scope);
    let disclaimed = db.transaction("disclaim upload", async move |tx| {
        rules::disclaim(tx, id).await
    });
    if let Err(error) = disclaimed.await {
        tracing::debug!(%error, upload = %id, "the file of a complete upload is created later");
    }
}

/// Whether an upload can never become a file.
const fn is_refused(error: &FilesError) -> bool {
    matches!(
        error,
        FilesError::TypeMismatch(_) | FilesError::DigestMismatch { .. }
    )
}

/// Writes the parts of an upload as one blob; what is known of it then. The upload's row is touched meanwhile.
async fn verify(
    writing: &mut Writing,
    upload: &UploadRow,
    parts: &[(BlobId, i64)],
    beat: &(dyn Fn() + Sync),
) -> Result<Facts, FilesError> {
    let (on, scope, id) = (writing.on.clone(), writing.scope.clone(), upload.id);
    let hash = upload.sha256.as_deref().and_then(Sha256::from_hex);
    let digest = hash
        .map(|hash| Announced::by("sha256", hash))
        .unwrap_or_default();
    let intent = Intent {
        announced: None,
        declared: upload.type_declared.as_deref(),
        digest: &digest,
    };
    let mut pieces = Parts {
        on: &on,
        parts,
        opened: 0,
        open: None,
    };
    let length = u64::try_from(upload.length).unwrap_or_default();
    let filling = fill(writing, &intent, length, &mut pieces);
    pin!(filling);
    let facts = loop {
        if let Ok(filled) = timeout(TOUCH, &mut filling).await {
            break filled?;
        }
        beat();
        let db = on.db.tenant(&scope);
        let touched = db.transaction("go on with finishing upload", async move |tx| {
            uploads::touch(tx, id, Moment::now()).await
        });
        touched.await?;
    };
    match facts.size == length {
        true => Ok(facts),
        false => Err(FilesError::Lost),
    }
}

/// Ends an upload.
///
/// # Errors
///
/// [`FilesError::Taken`] if it was continued meanwhile.
pub(crate) async fn end(
    on: &Service,
    scope: &TenantScope,
    upload: UploadRow,
) -> Result<(), FilesError> {
    let (db, id) = (on.db.tenant(scope), upload.id);
    let listed = db.read("list parts", async move |tx| blobs::parts(tx, id).await);
    let parts = listed.await?;
    let ended = db.transaction("end upload", async move |tx| rules::end(tx, &upload).await);
    ended.await?;
    drop_all(on, scope, parts).await;
    Ok(())
}

/// Deletes parts that are of no use any more; what is left the sweep deletes.
async fn drop_all(on: &Service, scope: &TenantScope, parts: Vec<(BlobId, i64)>) {
    let parts: Vec<BlobId> = parts.into_iter().map(|(blob, _)| blob).collect();
    for some in parts.chunks(DROPPED) {
        let dropped = drop_some(on, scope.tenant(), some.to_vec()).await;
        if let Err(error) = dropped {
            tracing::debug!(%error, "parts of an upload are deleted by the sweep");
            return;
        }
    }
}

async fn drop_some(on: &Service, tenant: TenantId, parts: Vec<BlobId>) -> Result<(), FilesError> {
    let deleted = stream::iter(parts.clone()).map(Ok);
    let deleted = deleted.try_for_each_concurrent(DELETES, |blob| on.storage.delete(blob));
    deleted.await?;
    let forgotten = on.system.transaction("forget parts", async move |tx| {
        Ok::<_, FilesError>(blobs::forget_all(tx, tenant, parts, Moment::now()).await?)
    });
    for _ in 0..forgotten.await? {
        metrics::dropped();
    }
    Ok(())
}

/// The bytes of parts, one after another. Asking may be given up and repeated: no part is passed over.
struct Parts<'o> {
    on: &'o Service,
    parts: &'o [(BlobId, i64)],
    /// How many of them were opened.
    opened: usize,
    open: Option<BoxStream<'static, Result<Bytes, StorageError>>>,
}

impl Pieces for Parts<'_> {
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            if let Some(open) = &mut self.open {
                if let Some(piece) = open.next().await {
                    return Ok(Some(piece?));
                }
                self.open = None;
            }
            let Some((blob, size)) = self.parts.get(self.opened) else {
                return Ok(None);
            };
            let size = u64::try_from(*size).unwrap_or_default();
            self.open = Some(self.on.storage.read(*blob, 0..size).await?);
            self.opened += 1;
        }
    }
}
