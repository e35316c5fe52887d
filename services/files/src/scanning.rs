//! Scans files: the job that does it, and the upload that waits for it.

use std::time::Duration;

use dotmac_platform::{
    audit::Acts as _,
    db::TenantScope,
    jobs::{Job as _, JobError, Run},
};
use tokio::time::{Instant, sleep};

use crate::{
    FilesError,
    jobs::Scan,
    metrics::{self, Scanned},
    rendering::again,
    rules::scans as rules,
    scanner::Verdict,
    service::Service,
    store::files::{self as store, FileRow, QUARANTINED, REJECTED, SCANNING},
};

/// How long an upload waits for its scan. Longer ones are answered in the state `scanning`.
const WAIT: Duration = Duration::from_secs(20);

/// The first pause between two queries; each is twice as long as the one before, up to a bound.
const LOOK: Duration = Duration::from_millis(10);
const LOOK_SELDOM: Duration = Duration::from_millis(320);

/// How soon a file is tried again if no clamd is configured any more.
const NO_SCANNER: Duration = Duration::from_secs(60);

/// A file as it is once it was scanned, or after 20 s.
///
/// # Errors
///
/// [`FilesError::Malware`], [`FilesError::NotScanned`]; the file is there all the same.
pub(crate) async fn settled(
    on: &Service,
    scope: &TenantScope,
    mut row: FileRow,
) -> Result<FileRow, FilesError> {
    let (until, mut pause) = (Instant::now() + WAIT, LOOK);
    loop {
        match row.state.as_str() {
            QUARANTINED => return Err(FilesError::Malware(row.id)),
            REJECTED => return Err(FilesError::NotScanned(row.id)),
            SCANNING if Instant::now() + pause <= until => sleep(pause).await,
            _ => return Ok(row),
        }
        pause = (pause * 2).min(LOOK_SELDOM);
        match find(on, scope, &row).await {
            Ok(Some(found)) => row = found,
            // The file exists; only this query failed.
            Ok(None) | Err(_) => return Ok(row),
        }
    }
}

async fn find(
    on: &Service,
    scope: &TenantScope,
    row: &FileRow,
) -> Result<Option<FileRow>, FilesError> {
    let (db, id) = (on.db.tenant(scope), row.id);
    let found = db.read("find scanned file", async move |tx| {
        Ok::<_, FilesError>(store::find(tx, id).await?)
    });
    found.await
}

/// Does a job: has clamd read the file, and decides.
pub(crate) async fn scan(on: Service, run: Run<Scan>) -> Result<(), JobError> {
    let Some(scope) = run.scope() else {
        return Err(JobError::fail("no_tenant", "the job belongs to no tenant"));
    };
    let (db, id) = (on.db.tenant(&scope), run.file);
    let found = db.read("find file to scan", async move |tx| {
        Ok::<_, FilesError>(store::find(tx, id).await?)
    });
    let Some(row) = found.await.map_err(again)?.filter(rules::is_due) else {
        return Ok(());
    };
    let Some(scanner) = on.scanner.clone() else {
        let message = "no clamd is configured: DOTMAC_FILES_CLAMD is not set";
        return Err(JobError::again_after(
            NO_SCANNER,
            "scanner_not_configured",
            message,
        ));
    };
    let size = u64::try_from(row.size).unwrap_or_default();
    let scanned = async {
        let pieces = on.storage.read(row.blob_id, 0..size).await?;
        scanner.scan(pieces, size).await
    };
    let verdict = match scanned.await {
        Ok(verdict) => verdict,
        Err(error) if run.attempt() >= Scan::RULES.max_attempts => {
            tracing::error!(file = %row.id, %error, "all attempts to scan the file failed; it is rejected");
            Verdict::Incomplete(error.to_string())
        }
        Err(error) => {
            metrics::scanned(Scanned::Failed);
            let message = dotmac_causes::chain(&error);
            return Err(JobError::again(
                crate::scanner::UNAVAILABLE.as_str(),
                message,
            ));
        }
    };
    let decided = match verdict {
        Verdict::Clean => {
            metrics::scanned(Scanned::Clean);
            let passed = db.transaction("pass file", async move |tx| rules::pass(tx, row).await);
            passed.await.map(drop)
        }
        Verdict::Infected(finding) => {
            metrics::scanned(Scanned::Infected);
            tracing::warn!(file = %row.id, finding, "a file has a virus; it is quarantined");
            let done = db.act("quarantine file", async move |tx| {
                rules::quarantine(tx, row, &finding).await
            });
            done.await
        }
        Verdict::Incomplete(why) => {
            metrics::scanned(Scanned::Incomplete);
            tracing::warn!(file = %row.id, why, "a file cannot be scanned; it is rejected");
            let done = db.act("reject file", async move |tx| rules::reject(tx, row).await);
            done.await
        }
    };
    match decided {
        // Another attempt was first.
        Err(FilesError::State(_)) => Ok(()),
        decided => decided.map_err(again),
    }
}
