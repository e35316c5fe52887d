//! An upload: first the quota and the row of a blob, then its bytes, then the file.
//!
//! `writing` holds the blob while its bytes come, and has it cleared away if no file gets it.

use bytes::Bytes;
use dotmac_platform::{
    access::Principal,
    audit::Acts as _,
    http::Problem,
    routing::{FormField, IncomingBody},
};

use crate::{
    FilesError,
    digest::{Announced, Hasher, Sha256},
    media::{self, TextSearch},
    metrics::{self, Outcome},
    rules::{self, files::Create, versions::Replace},
    scanning,
    service::Service,
    store::{
        blobs::BlobId,
        files::{FileId, FileRow},
        usage::OwnerId,
    },
    writing::Writing,
};

/// Where the bytes come from.
pub(crate) trait Pieces {
    async fn next(&mut self) -> Result<Option<Bytes>, Problem>;
}

impl Pieces for IncomingBody {
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        counted(Self::next(self).await)
    }
}

impl Pieces for FormField {
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        counted(Self::next(self).await)
    }
}

/// Bytes that come from a client are counted once, here: they may be read again from the store.
fn counted(piece: Result<Option<Bytes>, Problem>) -> Result<Option<Bytes>, Problem> {
    if let Ok(Some(piece)) = &piece {
        metrics::received(piece.len());
    }
    piece
}

/// What is said of an upload before its first byte.
pub(crate) struct Intent<'i> {
    /// How many bytes will come, if that is known.
    pub(crate) announced: Option<u64>,
    /// Of which type they are, as their sender says.
    pub(crate) declared: Option<&'i str>,
    pub(crate) digest: &'i Announced,
}

/// Bytes that have arrived and were checked. No file has them yet; if none gets them they are cleared away.
pub(crate) struct Received {
    writing: Writing,
    facts: Facts,
}

/// What is to become of them.
pub(crate) enum Goal {
    /// A new file.
    Create(Create),
    /// The content of a file that there is.
    Replace(Replace),
}

/// What is known of bytes once all have arrived.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) blob: BlobId,
    pub(crate) owner: OwnerId,
    pub(crate) size: u64,
    /// What is held of the quota for them, apart from what something else holds.
    pub(crate) reserved: u64,
    pub(crate) sha256: Sha256,
    pub(crate) media_type: String,
    /// Whether it is to be scanned before it can be read.
    pub(crate) scans: bool,
}

/// Takes in bytes, up to their end.
pub(crate) async fn receive(
    on: &Service,
    who: &Principal,
    intent: Intent<'_>,
    pieces: &mut impl Pieces,
) -> Result<Received, FilesError> {
    let begun = Writing::begin(on, who, intent.announced).await;
    let mut writing = begun.inspect_err(|error| metrics::uploaded(Outcome::of(error)))?;
    let most = on.settings.max_upload.bytes();
    match fill(&mut writing, &intent, most, pieces).await {
        Ok(facts) => Ok(Received { writing, facts }),
        Err(error) => Err(writing.refuse(error).await),
    }
}

impl Received {
    /// Gives the bytes to a file.
    pub(crate) async fn keep(self, goal: Goal) -> Result<FileRow, FilesError> {
        let Self { writing, facts } = self;
        let (on, scope) = (writing.on.clone(), writing.scope.clone());
        let db = on.db.tenant(&scope);
        let kept = db.act("keep file", async move |tx| match goal {
            Goal::Create(create) => rules::files::create(tx, FileId::new(), facts, create).await,
            Goal::Replace(replace) => rules::versions::replace(tx, facts, replace).await,
        });
        match kept.await {
            Ok(kept) => {
                writing.kept();
                metrics::uploaded(Outcome::Ok);
                scanning::settled(&on, &scope, kept).await
            }
            // If there is a file, its bytes must stay; if not, the sweep finds them.
            Err(error) if error.is_outcome_unknown() => {
                writing.kept();
                metrics::uploaded(Outcome::of(&error));
                Err(error)
            }
            Err(error) => Err(writing.refuse(error).await),
        }
    }

    /// Takes back what has arrived, since there is to be no file for the reason `error`; the error again.
    pub(crate) async fn refuse(self, error: FilesError) -> FilesError {
        self.writing.refuse(error).await
    }
}

/// Reads all that comes, up to `most` bytes, and verifies it: every byte of a file passes here, however it came, before there is a
/// file. Further checks of contents before the first read belong after the last piece.
///
/// # Errors
///
/// [`FilesError::TooLarge`], [`FilesError::DigestMismatch`], [`FilesError::TypeMismatch`]; those of the store and of the quota.
pub(crate) async fn fill(
    writing: &mut Writing,
    intent: &Intent<'_>,
    most: u64,
    pieces: &mut impl Pieces,
) -> Result<Facts, FilesError> {
    let (mut size, mut hasher) = (0, Hasher::new());
    let (mut head, mut text) = (Vec::new(), TextSearch::new());
    while let Some(piece) = writing.next(pieces).await? {
        size += piece.len() as u64;
        if size > most {
            return Err(FilesError::TooLarge(most));
        }
        writing.hold(size).await?;
        hasher.read(&piece);
        text.read(&piece);
        let wanted = media::HEAD.saturating_sub(head.len()).min(piece.len());
        head.extend_from_slice(&piece[..wanted]);
        writing.write(piece).await?;
    }
    let sha256 = hasher.finish();
    intent.digest.check(sha256)?;
    let media_type = media::judge(&head, text.is_text(), intent.declared);
    let media_type = media_type.map_err(FilesError::TypeMismatch)?;
    writing.finish(size).await?;
    Ok(Facts {
        blob: writing.blob(),
        owner: writing.owner,
        size,
        reserved: writing.reserved(),
        sha256,
        media_type,
        scans: writing.on.scanner.is_some(),
    })
}
