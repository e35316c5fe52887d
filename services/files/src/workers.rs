//! Work on files without a request: probes, the sweep, the check.

use std::time::Duration;

use dotmac_platform::{
    audit::Acts as _,
    db::{TenantScope, types::Moment},
    supervision::{Serving, WorkerContext},
};

use crate::{
    FilesError,
    check::{self, Deletes, Options},
    finishing,
    rules::{files as file_rules, uploads::UNFINISHED},
    scanner::UNAVAILABLE,
    service::{Abandoned, Service},
    storage::StorageError,
    store::{blobs, files, links, renditions, uploads},
    writing,
};

/// Things that are read with one query, and done one after another.
const BATCH: i64 = 100;

/// How long it is remembered that something could not be made of a file, and waited for what is being made.
const NOT_MADE: Duration = Duration::from_secs(3600);

/// Attempts to clear away an upload that was cut off, and the pause between them.
const TRIES: u32 = 10;
/// How often a row that is absent is searched again.
const ABSENT: u32 = 3;
const AGAIN: Duration = Duration::from_secs(1);

/// How long after its expiry the sweep still tries to create the file of a complete upload.
const HOPELESS: Duration = Duration::from_secs(24 * 3600);

/// How far ahead the lease of a blob is set that the store did not delete, so that all others are deleted first.
const POSTPONED: Duration = Duration::from_secs(3600);

/// How long links stay after their end, with their number of downloads.
const LINKS_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Clears away uploads whose clients went away. What it does not do is done by the sweep.
pub(crate) async fn clear(service: Service, context: WorkerContext) -> Result<(), FilesError> {
    let mut abandoned = service.to_clear.lock().await;
    loop {
        let next = tokio::select! {
            next = abandoned.recv() => next,
            () = context.stopping() => None,
        };
        let Some(next) = next else {
            return Ok(());
        };
        let (scope, blob) = (next.scope.clone(), next.blob);
        writing::abort(next).await;
        for tried in 1..=TRIES {
            match writing::release(&service, &scope, blob).await {
                Ok(true) => break,
                // Its row may be about to be committed.
                Ok(false) if tried < ABSENT => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::debug!(%error, "failed to remove an upload; retrying")
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
        context.beat();
    }
}

/// Writes, reads and deletes something in the store: what `/ready` says of it is true of both.
pub(crate) async fn probe(service: Service, context: WorkerContext) -> Result<(), FilesError> {
    let failed = service.storage.probe().await.err();
    let reason = failed.as_ref().map(StorageError::reason);
    match (&failed, service.is_new_state(reason)) {
        (Some(error), true) => {
            let error = dotmac_causes::chain(error);
            tracing::warn!(error, "the store of files is unavailable; retrying");
        }
        (None, true) => tracing::info!("the store of files is available"),
        (_, false) => {}
    }
    match reason {
        // What needs no bytes, as lists and changes, is done all the same.
        Some(reason) => context.lifeline().degraded(reason, Serving::default()),
        None => context.lifeline().ready(Serving::default()),
    }
    Ok(())
}

/// Asks clamd whether it answers. Files are uploaded all the same, and wait for it.
pub(crate) async fn ping(service: Service, context: WorkerContext) -> Result<(), FilesError> {
    let Some(scanner) = &service.scanner else {
        return Ok(());
    };
    let failed = scanner.ping().await.err();
    let reason = failed.as_ref().map(|_| UNAVAILABLE);
    match (&failed, service.is_new_scanner_state(reason)) {
        (Some(error), true) => {
            let error = dotmac_causes::chain(error);
            tracing::warn!(error, "clamd is unavailable; retrying");
        }
        (None, true) => tracing::info!("clamd is available"),
        (_, false) => {}
    }
    match reason {
        Some(reason) => context.lifeline().degraded(reason, Serving::default()),
        None => context.lifeline().ready(Serving::default()),
    }
    Ok(())
}

/// Deletes what uploads have left behind, and what was in the trash for long enough. One instance does it at a time.
pub(crate) async fn sweep(service: Service, context: WorkerContext) -> Result<(), FilesError> {
    // What one of them cannot do keeps no other waiting.
    let done = [
        give_up(&service, &context).await,
        end_expired(&service, &context).await,
        purge(&service, &context).await,
        expire(&service, &context).await,
        drop_blobs(&service, &context).await,
        delete_links(&service).await,
        finish(&service, &context).await,
    ];
    let mut failed = done.into_iter().filter_map(Result::err);
    let first = failed.next();
    for error in failed {
        let error = dotmac_causes::chain(&error);
        tracing::warn!(error, "another part of the sweep failed");
    }
    first.map_or(Ok(()), Err)
}

/// Deletes links that ended long ago.
async fn delete_links(service: &Service) -> Result<(), FilesError> {
    let oldest = Moment::now() - LINKS_KEPT;
    let deleted = service.system.transaction("delete links", async move |tx| {
        Ok::<_, FilesError>(links::delete_over(tx, oldest).await?)
    });
    deleted.await.map(drop)
}

/// Gives up uploads whose instance has not renewed their lease.
async fn give_up(service: &Service, context: &WorkerContext) -> Result<(), FilesError> {
    loop {
        let left = service
            .system
            .read("find uploads left behind", async move |c| {
                blobs::left_behind(c, Moment::now(), BATCH).await
            });
        let left = left.await?;
        let is_last = is_last(left.len());
        for (tenant, blob) in left {
            let scope = TenantScope::system(tenant, "give up uploads left behind");
            tracing::info!(%blob, "removed an upload of an instance that ended");
            writing::clear(
                service,
                Abandoned {
                    scope,
                    blob,
                    writer: None,
                },
            )
            .await?;
            context.beat();
        }
        if is_last {
            return Ok(());
        }
    }
}

/// Ends uploads in parts that have expired.
async fn end_expired(service: &Service, context: &WorkerContext) -> Result<(), FilesError> {
    loop {
        let now = Moment::now();
        let expired = service.system.read("find expired uploads", async move |c| {
            uploads::expired(c, (now, now - HOPELESS), BATCH).await
        });
        let expired = expired.await?;
        let is_last = is_last(expired.len());
        for upload in expired {
            let scope = TenantScope::system(upload.tenant_id, "end expired uploads");
            if upload.received == upload.length {
                tracing::error!(upload = %upload.id, "removed a complete upload: no file could be created from it");
            }
            match finishing::end(service, &scope, upload).await {
                Ok(()) | Err(FilesError::Taken) => context.beat(),
                Err(error) => return Err(error),
            }
        }
        if is_last {
            return Ok(());
        }
    }
}

/// Creates the files of complete uploads whose request did not. One that fails delays no other one.
async fn finish(service: &Service, context: &WorkerContext) -> Result<(), FilesError> {
    let oldest = Moment::now() - UNFINISHED;
    let unfinished = service
        .system
        .read("find unfinished uploads", async move |c| {
            uploads::unfinished(c, oldest, BATCH).await
        });
    for upload in unfinished.await? {
        let id = upload.id;
        let scope = TenantScope::system(upload.tenant_id, "finish uploads");
        let finished = async {
            finishing::claim(service, &scope, id).await?;
            finishing::finish(service, &scope, upload, &|| context.beat()).await
        };
        match finished.await {
            Ok(_) => tracing::info!(upload = %id, "created the file of a complete upload"),
            Err(FilesError::Lost | FilesError::Taken) => {}
            Err(error) => {
                tracing::warn!(%error, upload = %id, "failed to create the file of a complete upload");
            }
        }
        context.beat();
    }
    Ok(())
}

/// Deletes files that were in the trash for long enough.
async fn purge(service: &Service, context: &WorkerContext) -> Result<(), FilesError> {
    let oldest = Moment::now() - service.settings.trash_retention;
    loop {
        let tenants = service.system.read("find files to purge", async move |c| {
            files::tenants_to_purge(c, oldest, BATCH).await
        });
        let tenants = tenants.await?;
        if tenants.is_empty() {
            return Ok(());
        }
        for tenant in tenants {
            let scope = TenantScope::system(tenant, "purge the trash of files");
            let db = service.db.tenant(&scope);
            let rows = db.read("find files to purge", async move |tx| {
                files::to_purge(tx, oldest, BATCH).await
            });
            for row in rows.await? {
                let purged = db.act("purge file", async move |tx| {
                    file_rules::purge(tx, row).await
                });
                match purged.await {
                    Ok(()) | Err(FilesError::Changed(_)) => {}
                    Err(error) => return Err(error),
                }
                context.beat();
            }
        }
    }
}

/// Forgets renditions that are old, and those that were not made: both are created again at the next request.
async fn expire(service: &Service, context: &WorkerContext) -> Result<(), FilesError> {
    let made = Moment::now() - service.settings.rendition_retention;
    let asked = Moment::now() - NOT_MADE;
    loop {
        let expired = service
            .system
            .transaction("expire renditions", async move |tx| {
                let expired = renditions::expired(tx, made, asked, BATCH).await?;
                for row in &expired {
                    renditions::remove(tx, row).await?;
                }
                Ok::<_, FilesError>(expired.len())
            });
        if is_last(expired.await?) {
            return Ok(());
        }
        context.beat();
    }
}

/// Deletes bytes that no file has. Those that the store does not delete are tried again after all others.
async fn drop_blobs(service: &Service, context: &WorkerContext) -> Result<(), FilesError> {
    loop {
        let unused = service.system.read("find blobs to drop", async move |c| {
            blobs::to_drop(c, Moment::now(), BATCH).await
        });
        let unused = unused.await?;
        let is_last = is_last(unused.len());
        for (tenant, blob) in unused {
            let dropped = writing::drop_blob(service, tenant, blob).await;
            if let Err(error) = dropped {
                tracing::warn!(%blob, %error, "the store did not delete a blob; retrying");
                let until = Moment::now() + POSTPONED;
                let postponed = service
                    .system
                    .transaction("postpone blob", async move |tx| {
                        Ok::<_, FilesError>(blobs::postpone(tx, tenant, blob, until).await?)
                    });
                postponed.await?;
                return Err(error);
            }
            context.beat();
        }
        if is_last {
            return Ok(());
        }
    }
}

fn is_last(found: usize) -> bool {
    i64::try_from(found).is_ok_and(|found| found < BATCH)
}

/// Compares the store with the tables, and deletes what belongs to no blob. One instance does it at a time.
pub(crate) async fn check(service: Service, context: WorkerContext) -> Result<(), FilesError> {
    let options = Options {
        deletes_orphans: Deletes::Few,
        ..Options::default()
    };
    let report = check::run(&service, options, &|| context.beat()).await?;
    if report.are_too_many {
        tracing::error!(
            orphans = report.orphans.len(),
            "the store has more objects without a row than are deleted automatically; check that the database belongs to the store, \
             then run `dotmac files check --repair`"
        );
    }
    if report.is_clean() {
        tracing::debug!(blobs = report.blobs, "the store matches the tables");
    } else {
        tracing::error!(
            orphans = report.orphans.len(),
            missing = report.missing.len(),
            "the store does not match the tables; run `dotmac files check`"
        );
    }
    Ok(())
}
