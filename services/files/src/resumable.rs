//! Uploads that go on with the next request, on whatever instance: what tus needs.
//!
//! What comes is written as parts, each its own blob with its row before its first byte; a part counts once the upload's row
//! says so. A request that goes on with an upload raises its fence, so that one which is still there, on a connection that is
//! dead and not yet closed, can commit nothing more: no request waits for a lock. Once all has come the parts are read again,
//! hashed and written as one blob: the hash is that of what is stored.

use std::time::Duration;

use bytes::Bytes;
use dotmac_platform::{
    access::Principal,
    audit::Acts as _,
    db::{
        TenantScope,
        types::{Id, Moment},
    },
    http::Problem,
};
use futures_util::{StreamExt as _, stream::BoxStream};
use tokio::{pin, time::timeout};

use crate::{
    FilesError,
    digest::{Announced, Checksum, Sha256},
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
    writing::{Writing, drop_blob, permit},
};

/// Bytes of a part. What a client sends again after its instance was killed is less.
const PART: u64 = 4 * 1024 * 1024;

/// How often a request that makes a file of an upload says that it still does.
const TOUCH: Duration = Duration::from_secs(10);

/// Goes on with an upload at `offset` with all that comes; how far it has come then.
///
/// # Errors
///
/// As [`rules::go_on`] and [`rules::advance`]; [`FilesError::TooLong`], [`FilesError::Checksum`]. Without a checksum, what came
/// before a connection broke counts all the same.
pub(crate) async fn append(
    on: &Service,
    who: &Principal,
    (id, offset): (FileId, u64),
    checksum: Option<Checksum>,
    pieces: &mut impl Pieces,
) -> Result<UploadRow, FilesError> {
    let appended = take_in(on, who, (id, offset), checksum, pieces).await;
    appended.inspect_err(|error| match Outcome::of(error) {
        outcome @ (Outcome::Failed | Outcome::Limited) => metrics::uploaded(outcome),
        // Whatever was wrong with this request, the upload goes on with the next one.
        Outcome::Ok | Outcome::Refused | Outcome::Cut => {}
    })
}

async fn take_in(
    on: &Service,
    who: &Principal,
    (id, offset): (FileId, u64),
    checksum: Option<Checksum>,
    pieces: &mut impl Pieces,
) -> Result<UploadRow, FilesError> {
    let (owner, scope) = (Id::from_uuid(who.id), who.scope());
    let _permit = permit(on)?;
    let db = on.db.tenant(&scope);
    let taken = db.transaction("go on with upload", async move |tx| {
        rules::go_on(tx, owner, id, offset).await
    });
    let mut arriving = Arriving {
        on: on.clone(),
        scope,
        upload: taken.await?,
        checksum,
    };
    if offset > 0 {
        metrics::resumed();
    }
    arriving.read(pieces).await?;
    Ok(arriving.upload)
}

/// What arrives with one request.
struct Arriving {
    on: Service,
    scope: TenantScope,
    upload: UploadRow,
    checksum: Option<Checksum>,
}

/// What ends a part.
enum End {
    /// It is large enough.
    Full,
    /// There is no more in the request.
    Whole,
    /// The request was cut off.
    Cut(FilesError),
}

impl Arriving {
    async fn read(&mut self, pieces: &mut impl Pieces) -> Result<(), FilesError> {
        loop {
            let owner = self.upload.owner_id;
            let mut part = Writing::of_part(&self.on, &self.scope, owner).await?;
            let (size, end) = match self.fill(&mut part, pieces).await {
                Ok(filled) => filled,
                Err(error) => {
                    part.give_up().await;
                    return Err(error);
                }
            };
            match size {
                0 => part.give_up().await,
                size => self.keep(part, size).await?,
            }
            match end {
                End::Full => {}
                End::Whole => return Ok(()),
                End::Cut(error) => return Err(error),
            }
        }
    }

    /// Takes in a part: its size, and what ended it. What has a checksum is one part, since it counts as a whole or not at all.
    async fn fill(
        &mut self,
        part: &mut Writing,
        pieces: &mut impl Pieces,
    ) -> Result<(u64, End), FilesError> {
        let left = u64::try_from(self.upload.length - self.upload.received).unwrap_or_default();
        let mut size = 0;
        loop {
            let piece = match part.next(pieces).await {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(error @ (FilesError::Problem(_) | FilesError::Slow))
                    if self.checksum.is_none() =>
                {
                    return Ok((size, End::Cut(error)));
                }
                Err(error) => return Err(error),
            };
            size += piece.len() as u64;
            if size > left {
                return Err(FilesError::TooLong);
            }
            if let Some(checksum) = &mut self.checksum {
                checksum.read(&piece);
            }
            part.write(piece).await?;
            if size >= PART && size < left && self.checksum.is_none() {
                return Ok((size, End::Full));
            }
        }
        if let Some(checksum) = &self.checksum {
            checksum.check()?;
        }
        Ok((size, End::Whole))
    }

    /// Makes a part count.
    async fn keep(&mut self, mut part: Writing, size: u64) -> Result<(), FilesError> {
        if let Err(error) = part.finish(size).await {
            part.give_up().await;
            return Err(error);
        }
        let (seen, blob) = (self.upload.clone(), part.blob());
        let db = self.on.db.tenant(&self.scope);
        let advanced = db.transaction("keep part", async move |tx| {
            rules::advance(tx, &seen, blob, size).await
        });
        match advanced.await {
            Ok(upload) => {
                part.kept();
                self.upload = upload;
                Ok(())
            }
            Err(error) if error.is_outcome_unknown() => {
                part.kept();
                Err(error)
            }
            Err(error) => {
                part.give_up().await;
                Err(error)
            }
        }
    }
}

/// Makes a file of an upload that has come whole. Its parts are read, verified, and written as one blob. `beat` is called while
/// that goes on.
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

/// Whether an upload can never become a file.
const fn is_refused(error: &FilesError) -> bool {
    matches!(
        error,
        FilesError::TypeMismatch(_) | FilesError::DigestMismatch { .. }
    )
}

/// Writes the parts of an upload as one blob; what is known of it then. The upload's row says meanwhile that it is worked upon.
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
/// [`FilesError::Taken`] if it has gone on meanwhile.
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
    for (blob, _) in parts {
        if let Err(error) = drop_blob(on, scope.tenant(), blob).await {
            tracing::debug!(%error, "parts of an upload are deleted by the sweep");
            return;
        }
    }
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
