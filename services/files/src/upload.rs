//! An upload: first the quota and the row of a blob, then its bytes, then the file.
//!
//! Whatever ends it in between, what is left is a row that says so: the handler takes it back at once if it can; a handler
//! that is dropped, since its client went away, hands it to the worker `clear`; and what an instance leaves that is killed is
//! found by the sweep when its lease has run out. No byte is in the store without a row that was there before.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dotmac_platform::{
    access::Principal,
    audit::Acts as _,
    db::{
        TenantId, TenantScope, TenantTx,
        types::{Id, Moment},
    },
    http::Problem,
    routing::{FormField, IncomingBody},
};
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use crate::{
    FilesError,
    digest::{Announced, Hasher, Sha256},
    media::{self, TextSearch},
    metrics::{self, Outcome},
    rules::{self, GivenUp, files::Create},
    scanning,
    service::{Abandoned, Quotas, Service, bytes},
    storage::Writer,
    store::{
        blobs::{self, BlobId, BlobRow, WRITING},
        files::FileRow,
        renditions,
        usage::{Change, OwnerId},
    },
};

/// For how long an instance holds a blob that it writes.
const LEASE: Duration = Duration::from_secs(60);

/// How often it says that it still does.
const RENEW: Duration = Duration::from_secs(15);

/// The longest time without a byte.
const SILENCE: Duration = Duration::from_secs(45);

/// How long the store has to take back a part of an upload.
const ABORT: Duration = Duration::from_secs(5);

/// What is reserved at once of the quota for a body whose size is not announced.
const STEP: u64 = 8 * 1024 * 1024;

/// Where the bytes come from.
pub(crate) trait Pieces {
    async fn next(&mut self) -> Result<Option<Bytes>, Problem>;
}

impl Pieces for IncomingBody {
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        Self::next(self).await
    }
}

impl Pieces for FormField {
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        Self::next(self).await
    }
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

/// What is known of bytes once all have arrived.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) blob: BlobId,
    pub(crate) owner: OwnerId,
    pub(crate) size: u64,
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
    match fill(&mut writing, &intent, pieces).await {
        Ok(facts) => Ok(Received { writing, facts }),
        Err(error) => Err(writing.refuse(error).await),
    }
}

impl Received {
    /// Makes a file of the bytes.
    pub(crate) async fn keep(self, create: Create) -> Result<FileRow, FilesError> {
        let Self { mut writing, facts } = self;
        let db = writing.on.db.tenant(&writing.scope);
        let kept = db.act("keep file", async move |tx| {
            rules::files::create(tx, facts, create).await
        });
        match kept.await {
            Ok(kept) => {
                writing.is_over = true;
                metrics::uploaded(Outcome::Ok);
                let (on, scope) = (writing.on.clone(), writing.scope.clone());
                // It is no upload any more.
                drop(writing);
                scanning::settled(&on, &scope, kept).await
            }
            // If there is a file, its bytes must stay; if not, the sweep finds them.
            Err(error) if error.is_outcome_unknown() => {
                writing.is_over = true;
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

/// Bytes that arrive.
struct Writing {
    on: Service,
    scope: TenantScope,
    owner: OwnerId,
    blob: BlobId,
    /// What is held of the quota.
    reserved: u64,
    renewed: Instant,
    writer: Option<Writer>,
    /// Nothing is to be cleared away.
    is_over: bool,
    /// The metrics say already what has become of it.
    is_counted: bool,
    _permit: OwnedSemaphorePermit,
}

impl Writing {
    async fn begin(
        on: &Service,
        who: &Principal,
        announced: Option<u64>,
    ) -> Result<Self, FilesError> {
        let permit = Arc::clone(&on.uploads).try_acquire_owned();
        let permit = permit.map_err(|_| FilesError::Busy)?;
        let (blob, owner, scope) = (BlobId::new(), Id::from_uuid(who.id), who.scope());
        let (reserved, quotas) = (announced.unwrap_or(0), on.quotas());
        let mut writing = Self {
            on: on.clone(),
            scope,
            owner,
            blob,
            reserved,
            renewed: Instant::now(),
            writer: None,
            // Already now: the row may be committed although this is dropped before it is known.
            is_over: false,
            is_counted: false,
            _permit: permit,
        };
        let db = on.db.tenant(&writing.scope);
        let begun = db.transaction("begin upload", async move |tx| {
            let now = Moment::now();
            let row = BlobRow {
                tenant_id: tx.tenant(),
                id: blob,
                owner_id: owner,
                state: WRITING.to_owned(),
                size: 0,
                refs: 0,
                reserved: bytes(reserved),
                lease_until: now + LEASE,
                created_at: now,
            };
            blobs::insert(tx, row).await?;
            hold(tx, owner, reserved, quotas).await
        });
        if let Err(error) = begun.await {
            writing.is_over = !error.is_outcome_unknown();
            return Err(error);
        }
        match on.storage.writer(blob).await {
            Ok(writer) => {
                writing.writer = Some(writer);
                Ok(writing)
            }
            Err(error) => {
                writing.give_up().await;
                Err(error.into())
            }
        }
    }

    /// The next piece. While the client is slow the lease is renewed.
    async fn next(&mut self, pieces: &mut impl Pieces) -> Result<Option<Bytes>, FilesError> {
        let asked = Instant::now();
        loop {
            let piece = timeout(RENEW, pieces.next()).await;
            if self.renewed.elapsed() >= RENEW {
                self.renew(0).await?;
            }
            match piece {
                Ok(piece) => return Ok(piece?),
                Err(_) if asked.elapsed() >= SILENCE => return Err(FilesError::Slow),
                Err(_) => {}
            }
        }
    }

    /// Sees to it that so many bytes are held of the quota.
    async fn hold(&mut self, size: u64) -> Result<(), FilesError> {
        let Some(lacking) = size.checked_sub(self.reserved).filter(|it| *it > 0) else {
            return Ok(());
        };
        match self.renew(lacking.max(STEP)).await {
            // There may be room for what has come.
            Err(FilesError::Quota(_)) if lacking < STEP => self.renew(lacking).await,
            done => done,
        }
    }

    /// Holds the blob for longer, and so many bytes more of the quota.
    async fn renew(&mut self, more: u64) -> Result<(), FilesError> {
        let (blob, owner, quotas) = (self.blob, self.owner, self.on.quotas());
        let db = self.on.db.tenant(&self.scope);
        let renewed = db.transaction("hold upload", async move |tx| {
            if !blobs::renew(tx, blob, Moment::now() + LEASE, bytes(more)).await? {
                return Err(FilesError::Lost);
            }
            match more {
                0 => Ok(()),
                more => hold(tx, owner, more, quotas).await,
            }
        });
        renewed.await?;
        self.reserved += more;
        self.renewed = Instant::now();
        Ok(())
    }

    /// Counts the upload as what `error` makes of it, and takes back what has arrived; the error again.
    async fn refuse(mut self, error: FilesError) -> FilesError {
        metrics::uploaded(Outcome::of(&error));
        self.is_counted = true;
        self.give_up().await;
        error
    }

    /// Takes back what has arrived.
    async fn give_up(mut self) {
        let abandoned = Abandoned {
            scope: self.scope.clone(),
            blob: self.blob,
            writer: self.writer.take(),
        };
        if let Err(error) = clear(&self.on, abandoned).await {
            tracing::warn!(%error, "an upload that has failed is cleared away later");
        }
        // Not before: a handler may be dropped meanwhile, since its client has gone.
        self.is_over = true;
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        if !self.is_counted {
            metrics::uploaded(Outcome::Cut);
        }
        self.on.abandon(Abandoned {
            scope: self.scope.clone(),
            blob: self.blob,
            writer: self.writer.take(),
        });
    }
}

/// Reads all that comes.
async fn fill(
    writing: &mut Writing,
    intent: &Intent<'_>,
    pieces: &mut impl Pieces,
) -> Result<Facts, FilesError> {
    let most = writing.on.settings.max_upload.bytes();
    let (mut size, mut hasher) = (0, Hasher::new());
    let (mut head, mut text) = (Vec::new(), TextSearch::new());
    while let Some(piece) = writing.next(pieces).await? {
        size += piece.len() as u64;
        if size > most {
            return Err(FilesError::TooLarge(most));
        }
        writing.hold(size).await?;
        metrics::received(piece.len());
        hasher.read(&piece);
        text.read(&piece);
        let wanted = media::HEAD.saturating_sub(head.len()).min(piece.len());
        head.extend_from_slice(&piece[..wanted]);
        if let Some(writer) = &mut writing.writer {
            writer.write(piece).await?;
        }
    }
    let sha256 = hasher.finish();
    intent.digest.check(sha256)?;
    let media_type = media::judge(&head, text.is_text(), intent.declared);
    let media_type = media_type.map_err(FilesError::TypeMismatch)?;
    if let Some(writer) = writing.writer.take() {
        writer.finish().await?;
    }
    let stored = writing.on.storage.size(writing.blob).await?;
    if stored != Some(size) {
        tracing::error!(blob = %writing.blob, size, ?stored, "the store does not have what was written");
        return Err(FilesError::Lost);
    }
    Ok(Facts {
        blob: writing.blob,
        owner: writing.owner,
        size,
        sha256,
        media_type,
        scans: writing.on.scanner.is_some(),
    })
}

async fn hold(
    tx: &mut TenantTx,
    owner: OwnerId,
    size: u64,
    quotas: Quotas,
) -> Result<(), FilesError> {
    let change = Change {
        reserved: bytes(size),
        ..Change::default()
    };
    rules::take(tx, owner, change, quotas).await
}

/// Gives up an upload: its row says that its bytes are to go, its part of the quota is free, and its bytes go if the store does it
/// now. What is left the sweep does.
pub(crate) async fn clear(on: &Service, abandoned: Abandoned) -> Result<(), FilesError> {
    let (scope, blob) = (abandoned.scope.clone(), abandoned.blob);
    abort(abandoned).await;
    release(on, &scope, blob).await.map(drop)
}

/// Has the store take back what it has of an upload without a name.
pub(crate) async fn abort(abandoned: Abandoned) {
    let Some(writer) = abandoned.writer else {
        return;
    };
    // What it does not take back in time is deleted by the name of the blob.
    match timeout(ABORT, writer.abort()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!(%error, "the store did not take back a part of an upload");
        }
        Err(_) => tracing::debug!("the store did not take back a part of an upload in time"),
    }
}

/// The rest of [`clear`], which may be repeated; whether there is a row that says what becomes of the bytes.
pub(crate) async fn release(
    on: &Service,
    scope: &TenantScope,
    blob: BlobId,
) -> Result<bool, FilesError> {
    let db = on.db.tenant(scope);
    let released = db.transaction("give up upload", async move |tx| {
        rules::give_up(tx, blob).await
    });
    let given_up = released.await?;
    // Its commit was under way when its handler was dropped.
    if given_up != GivenUp::Kept {
        drop_blob(on, scope.tenant(), blob).await?;
    }
    Ok(given_up != GivenUp::Absent)
}

/// Deletes bytes from the store, and then their row, which says that they are to be deleted.
pub(crate) async fn drop_blob(
    on: &Service,
    tenant: TenantId,
    blob: BlobId,
) -> Result<(), FilesError> {
    on.storage.delete(blob).await?;
    let forgotten = on.system.transaction("forget blob", async move |tx| {
        for made in renditions::of_source(tx, tenant, blob).await? {
            renditions::remove(tx, &made).await?;
        }
        blobs::forget(tx, tenant, blob).await?;
        Ok::<_, FilesError>(())
    });
    forgotten.await?;
    metrics::dropped();
    Ok(())
}
