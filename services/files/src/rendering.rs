//! Makes renditions: the job that does it, and the requests that wait for it.

use std::time::Duration;

use bytes::Bytes;
use dotmac_platform::{
    db::{TenantScope, types::Moment},
    jobs::{JobError, Run},
};
use tokio::time::{Instant, sleep};

use crate::{
    FilesError,
    decoding::{self, DecodeError, Task},
    digest::{Hasher, Sha256},
    jobs::Render,
    metrics,
    rules::renditions as rules,
    service::{Abandoned, Service, bytes},
    store::{
        blobs::{self, BlobId, BlobRow, KEPT, WRITING},
        files::FileRow,
        renditions::{self as store, FAILED, PENDING, READY, RenditionRow},
    },
    writing,
};

/// How long a request waits for what is being made.
const WAIT: Duration = Duration::from_secs(10);

/// The first pause between two queries; each is twice as long as the one before, up to a bound.
const LOOK: Duration = Duration::from_millis(20);
const LOOK_SELDOM: Duration = Duration::from_millis(320);

/// How long an instance may take to store a result.
const LEASE: Duration = Duration::from_secs(10 * 60);

/// What is made of a file, once it is; it is made now unless it was before.
///
/// # Errors
///
/// As [`rules::demand`]; [`FilesError::Failed`], [`FilesError::Pending`] after 10 s.
pub(crate) async fn obtain(
    on: &Service,
    scope: &TenantScope,
    file: &FileRow,
    task: Task,
) -> Result<RenditionRow, FilesError> {
    if !task.takes(&file.media_type) {
        return Err(FilesError::Undecodable(file.media_type.clone()));
    }
    let (until, mut pause) = (Instant::now() + WAIT, LOOK);
    loop {
        let found = match named(on, scope, file, task).await? {
            Some(found) => found,
            None => demand(on, scope, file, task).await?,
        };
        match found.state.as_str() {
            READY => return Ok(found),
            FAILED => return Err(FilesError::Failed(found.fault.unwrap_or_default())),
            _ if Instant::now() + pause > until => return Err(FilesError::Pending),
            _ => sleep(pause).await,
        }
        pause = (pause * 2).min(LOOK_SELDOM);
    }
}

async fn named(
    on: &Service,
    scope: &TenantScope,
    file: &FileRow,
    task: Task,
) -> Result<Option<RenditionRow>, FilesError> {
    let (db, source, name) = (on.db.tenant(scope), file.blob_id, task.name());
    let found = db.read("find rendition", async move |tx| {
        Ok::<_, FilesError>(store::named(tx, source, name).await?)
    });
    found.await
}

async fn demand(
    on: &Service,
    scope: &TenantScope,
    file: &FileRow,
    task: Task,
) -> Result<RenditionRow, FilesError> {
    let (db, file) = (on.db.tenant(scope), file.clone());
    let most = on.settings.max_renditions;
    let asked = db.transaction("ask for rendition", async move |tx| {
        rules::demand(tx, &file, task, most).await
    });
    asked.await
}

/// Forgets a rendition whose bytes are gone: the next request has it created again.
pub(crate) async fn forget(
    on: &Service,
    scope: &TenantScope,
    row: RenditionRow,
) -> Result<(), FilesError> {
    let db = on.db.tenant(scope);
    let forgotten = db.transaction("forget rendition", async move |tx| {
        store::remove(tx, &row).await?;
        Ok::<_, FilesError>(())
    });
    forgotten.await
}

/// Does a job: decodes the source, stores the result. A file that cannot be decoded fails the job, and is remembered.
pub(crate) async fn render(on: Service, run: Run<Render>) -> Result<(), JobError> {
    let Some(scope) = run.scope() else {
        return Err(JobError::fail("no_tenant", "the job belongs to no tenant"));
    };
    let db = on.db.tenant(&scope);
    let id = run.rendition;
    let loaded = db.read("find rendition", async move |tx| {
        let Some(row) = store::find(tx, id).await? else {
            return Ok::<_, FilesError>(None);
        };
        let tenant = tx.tenant();
        let source = blobs::find(tx, tenant, row.source_id).await?;
        Ok(source.map(|source| (row, source)))
    });
    let Some((row, source)) = loaded.await.map_err(again)? else {
        return Ok(());
    };
    let task = Task::of_name(&row.name);
    let (Some(task), PENDING, KEPT) = (task, row.state.as_str(), source.state.as_str()) else {
        return Ok(());
    };
    let result = match decode(&on, task, &run.media_type, &source).await {
        Ok(result) => result,
        Err(DecodeError::Refused(refusal)) => {
            metrics::decoded(refusal.fault.text());
            let fault = refusal.fault.text();
            let failed = db.transaction("fail rendition", async move |tx| {
                store::fail(tx, id, fault).await?;
                Ok::<_, FilesError>(())
            });
            failed.await.map_err(again)?;
            return Err(JobError::fail(fault, refusal.message));
        }
        Err(error) => {
            metrics::decoded(metrics::DECODE_FAILED);
            return Err(error.into());
        }
    };
    metrics::decoded(metrics::DECODED);
    keep(&on, &scope, &row, result).await.map_err(again)
}

async fn decode(
    on: &Service,
    task: Task,
    media_type: &str,
    source: &BlobRow,
) -> Result<Vec<u8>, DecodeError> {
    let size = u64::try_from(source.size).unwrap_or_default();
    if size > decoding::MOST_SOURCE {
        return Err(DecodeError::Refused(decoding::too_large()));
    }
    let pieces = on.storage.read(source.id, 0..size).await?;
    let limits = on.settings.decode_limits();
    decoding::decode(task, (media_type, size), limits, pieces).await
}

/// Stores a result: its row is there before its bytes, and it is read only once both are.
async fn keep(
    on: &Service,
    scope: &TenantScope,
    row: &RenditionRow,
    result: Vec<u8>,
) -> Result<(), FilesError> {
    let (blob, id, size) = (BlobId::new(), row.id, bytes(result.len() as u64));
    let source = row.source_id;
    let db = on.db.tenant(scope);
    let begun = db.transaction("begin rendition", async move |tx| {
        let (tenant, now) = (tx.tenant(), Moment::now());
        let source = blobs::find(tx, tenant, source).await?;
        let owner = source.ok_or(FilesError::NotFound)?.owner_id;
        let row = BlobRow {
            tenant_id: tenant,
            id: blob,
            owner_id: owner,
            state: WRITING.to_owned(),
            size: 0,
            refs: 0,
            reserved: 0,
            lease_until: now + LEASE,
            created_at: now,
        };
        blobs::insert(tx, row).await?;
        Ok::<_, FilesError>(())
    });
    begun.await?;
    let sha256 = hash(&result);
    let kept = async {
        let mut writer = on.storage.writer(blob).await?;
        writer.write(Bytes::from(result)).await?;
        writer.finish().await?;
        let kept = db.transaction("keep rendition", async move |tx| {
            if !store::complete(tx, id, blob, size, sha256.hex()).await? {
                return Ok(false);
            }
            match blobs::keep(tx, blob, size, 0).await? {
                true => Ok(true),
                false => Err(FilesError::Lost),
            }
        });
        kept.await
    };
    match kept.await {
        Ok(true) => Ok(()),
        // Its source has gone, or another attempt was first.
        Ok(false) => clear(on, scope, blob).await,
        Err(error) if error.is_outcome_unknown() => Err(error),
        Err(error) => {
            clear(on, scope, blob).await?;
            Err(error)
        }
    }
}

async fn clear(on: &Service, scope: &TenantScope, blob: BlobId) -> Result<(), FilesError> {
    let abandoned = Abandoned {
        scope: scope.clone(),
        blob,
        writer: None,
    };
    writing::clear(on, abandoned).await
}

fn hash(result: &[u8]) -> Sha256 {
    let mut hasher = Hasher::new();
    hasher.read(result);
    hasher.finish()
}

/// What the database did not do because it is away counts as no attempt.
pub(crate) fn again(error: FilesError) -> JobError {
    match error {
        FilesError::Db(error) => error.into(),
        error => error.into(),
    }
}
