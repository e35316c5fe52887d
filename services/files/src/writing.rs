//! Bytes that are being written to the store, and what clears them away if nothing gets them.
//!
//! A write that ends early leaves a row that records it: the handler takes it back at once if it can; a handler
//! that is dropped, since its client went away, hands it to the worker `clear`; and what an instance leaves that is killed is
//! found by the sweep when its lease has run out. No byte is in the store without a row that was there before.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dotmac_platform::{
    access::Principal,
    db::{
        TenantId, TenantScope, TenantTx,
        types::{Id, Moment},
    },
};
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use crate::{
    FilesError,
    metrics::{self, Outcome},
    rules::{self, GivenUp},
    service::{Abandoned, Quotas, Service, bytes},
    storage::Writer,
    store::{
        blobs::{self, BlobId, BlobRow, WRITING},
        renditions,
        usage::{Change, OwnerId},
    },
    upload::Pieces,
};

/// For how long an instance holds a blob that it writes.
const LEASE: Duration = Duration::from_secs(60);

/// How often the lease is renewed.
const RENEW: Duration = Duration::from_secs(15);

/// The longest time without a byte.
const SILENCE: Duration = Duration::from_secs(45);

/// How long the store has to take back a part of an upload.
const ABORT: Duration = Duration::from_secs(5);

/// What is reserved at once of the quota for a body whose size is not announced.
const STEP: u64 = 8 * 1024 * 1024;

/// Bytes that arrive. What is dropped is cleared away, unless it [is kept](Self::kept).
pub(crate) struct Writing {
    pub(crate) on: Service,
    pub(crate) scope: TenantScope,
    pub(crate) owner: OwnerId,
    blob: BlobId,
    /// What is held of the quota; `None` where something else holds it.
    reserved: Option<u64>,
    renewed: Instant,
    writer: Option<Writer>,
    /// Nothing is to be cleared away.
    is_over: bool,
    /// The metrics say already what has become of it, or it is a part of something that they count.
    is_counted: bool,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Writing {
    /// Bytes of an upload, of which so many are held of the quota.
    pub(crate) async fn begin(
        on: &Service,
        who: &Principal,
        announced: Option<u64>,
    ) -> Result<Self, FilesError> {
        let permit = permit(on)?;
        let (owner, scope) = (Id::from_uuid(who.id), who.scope());
        let reserved = announced.unwrap_or(0);
        Self::of(on, (scope, owner), Some(reserved), Some(permit)).await
    }

    /// Bytes that something else holds the quota and a permit for, and counts.
    pub(crate) async fn of_part(
        on: &Service,
        scope: &TenantScope,
        owner: OwnerId,
    ) -> Result<Self, FilesError> {
        Self::of(on, (scope.clone(), owner), None, None).await
    }

    async fn of(
        on: &Service,
        (scope, owner): (TenantScope, OwnerId),
        reserved: Option<u64>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<Self, FilesError> {
        let (blob, quotas) = (BlobId::new(), on.quotas());
        let held = reserved.unwrap_or(0);
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
            is_counted: reserved.is_none(),
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
                reserved: bytes(held),
                lease_until: now + LEASE,
                created_at: now,
            };
            blobs::insert(tx, row).await?;
            match reserved {
                Some(reserved) => hold(tx, owner, reserved, quotas).await,
                None => Ok(()),
            }
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
    pub(crate) async fn next(
        &mut self,
        pieces: &mut impl Pieces,
    ) -> Result<Option<Bytes>, FilesError> {
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
    pub(crate) async fn hold(&mut self, size: u64) -> Result<(), FilesError> {
        let lacking = self.reserved.and_then(|held| size.checked_sub(held));
        let Some(lacking) = lacking.filter(|it| *it > 0) else {
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
        self.reserved = self.reserved.map(|held| held + more);
        self.renewed = Instant::now();
        Ok(())
    }

    /// Counts the upload as what `error` makes of it, and takes back what has arrived; the error again.
    pub(crate) async fn refuse(mut self, error: FilesError) -> FilesError {
        metrics::uploaded(Outcome::of(&error));
        self.is_counted = true;
        self.give_up().await;
        error
    }

    /// Their name.
    pub(crate) const fn blob(&self) -> BlobId {
        self.blob
    }

    /// What is held of the quota; nothing where something else holds it.
    pub(crate) fn reserved(&self) -> u64 {
        self.reserved.unwrap_or(0)
    }

    /// Adds a piece.
    pub(crate) async fn write(&mut self, piece: Bytes) -> Result<(), FilesError> {
        match &mut self.writer {
            Some(writer) => Ok(writer.write(piece).await?),
            None => Ok(()),
        }
    }

    /// Ends the bytes, of which there are so many, and checks that the store has them.
    pub(crate) async fn finish(&mut self, size: u64) -> Result<(), FilesError> {
        if let Some(writer) = self.writer.take() {
            writer.finish().await?;
        }
        let stored = self.on.storage.size(self.blob).await?;
        if stored != Some(size) {
            tracing::error!(blob = %self.blob, size, ?stored, "the store lost written data");
            return Err(FilesError::Lost);
        }
        Ok(())
    }

    /// Something has the bytes now, or may have them: then the sweep finds out.
    pub(crate) fn kept(mut self) {
        self.is_over = true;
    }

    /// Takes back what has arrived.
    pub(crate) async fn give_up(mut self) {
        let abandoned = Abandoned {
            scope: self.scope.clone(),
            blob: self.blob,
            writer: self.writer.take(),
        };
        if let Err(error) = clear(&self.on, abandoned).await {
            tracing::warn!(%error, "a failed upload is removed later");
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

/// A permit for one more upload.
pub(crate) fn permit(on: &Service) -> Result<OwnedSemaphorePermit, FilesError> {
    let permit = Arc::clone(&on.uploads).try_acquire_owned();
    permit.map_err(|_| FilesError::Busy)
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
            tracing::debug!(%error, "the store did not delete a part of an upload");
        }
        Err(_) => tracing::debug!("the store did not delete a part of an upload in time"),
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
        Ok::<_, FilesError>(blobs::forget(tx, tenant, blob, Moment::now()).await?)
    });
    if forgotten.await? {
        metrics::dropped();
    }
    Ok(())
}
