//! Uploads that continue with the next request, on any instance: what tus needs.
//!
//! What comes is written as parts, each its own blob with its row before its first byte; a part counts once the upload's row
//! says so. A request that continues an upload raises its fence, so that one which is still there, on a connection that is
//! dead and not yet closed, can commit nothing more: no request waits for a lock. Once all has come `finishing` creates the file.

use std::time::{Duration, Instant};

use dotmac_platform::{
    access::Principal,
    db::{TenantScope, types::Id},
};
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    FilesError,
    digest::Checksum,
    finishing::{claim, finish},
    metrics::{self, Outcome},
    rules::uploads as rules,
    service::Service,
    store::{files::FileId, uploads::UploadRow},
    upload::Pieces,
    writing::{Writing, permit},
};

/// The least bytes of a part that is not the last of its request, and the most. What arrived of a part is sent again after its
/// instance was killed.
const PART: u64 = 4 * 1024 * 1024;
const LARGEST: u64 = 16 * 1024 * 1024;

/// How long a part may grow beyond the least: from a fast client it takes more bytes, and fewer transactions and syncs.
const GROWING: Duration = Duration::from_secs(1);

/// An upload after a request that continued it.
pub(crate) struct Appended {
    pub(crate) upload: UploadRow,
    /// Whether its last byte came with this request.
    ends: bool,
    /// Held until the file is made.
    _permit: OwnedSemaphorePermit,
}

/// Continues an upload at `offset` with all that comes.
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
) -> Result<Appended, FilesError> {
    let appended = take_in(on, who, (id, offset), checksum, pieces).await;
    appended.inspect_err(|error| match Outcome::of(error) {
        outcome @ (Outcome::Failed | Outcome::Limited) => metrics::uploaded(outcome),
        // An error of this request: the next one continues the upload.
        Outcome::Ok | Outcome::Refused | Outcome::Cut => {}
    })
}

async fn take_in(
    on: &Service,
    who: &Principal,
    (id, offset): (FileId, u64),
    checksum: Option<Checksum>,
    pieces: &mut impl Pieces,
) -> Result<Appended, FilesError> {
    let (owner, scope) = (Id::from_uuid(who.id), who.scope());
    let permit = permit(on)?;
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
    let before = arriving.upload.received;
    arriving.read(pieces).await?;
    let upload = arriving.upload;
    Ok(Appended {
        ends: before < upload.length && upload.received == upload.length,
        upload,
        _permit: permit,
    })
}

impl Appended {
    /// Makes a file of the upload if all of it has come, and no other request does so.
    ///
    /// # Errors
    ///
    /// As [`finish`]; [`FilesError::Taken`].
    pub(crate) async fn finish(&self, on: &Service, scope: &TenantScope) -> Result<(), FilesError> {
        let upload = self.upload.clone();
        if upload.received < upload.length {
            return Ok(());
        }
        if !self.ends {
            claim(on, scope, upload.id).await?;
        }
        finish(on, scope, upload, &|| {}).await.map(drop)
    }
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
        let (mut size, begun) = (0, Instant::now());
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
            let is_full = size >= LARGEST || (size >= PART && begun.elapsed() >= GROWING);
            if is_full && size < left && self.checksum.is_none() {
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
