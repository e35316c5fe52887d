//! Rules for the contents that a file has had.

use dotmac_platform::{
    audit::Audited,
    db::{
        TenantTx,
        types::{Json, Moment},
    },
    events::Emit as _,
    jobs::Enqueue as _,
    routing::{IfMatch, PreconditionFailed},
};

use crate::{
    FilesError,
    audit::{DELETE_VERSION, REPLACE, RESTORE_VERSION, record},
    events::FileUpdated,
    jobs::Scan,
    rules::{
        files::{find, present},
        settle, take,
    },
    service::{Quotas, bytes},
    store::{
        blobs,
        files::{self, Details, FileId, FileRow, READY, Replacement, SCANNING},
        usage::Change,
        versions::{self as store, VersionRow},
    },
    upload::Facts,
};

/// What a content has as its version while the file has it, and after another has replaced it: nothing else changes of it.
pub(crate) const CURRENT: i64 = 1;
pub(crate) const FORMER: i64 = 2;

/// A content that is to replace that of a file.
pub(crate) struct Replace {
    pub(crate) file: FileId,
    /// The version of the file that the client has seen.
    pub(crate) seen: IfMatch,
    pub(crate) declared: Option<String>,
    pub(crate) quotas: Quotas,
    /// How many former contents are kept.
    pub(crate) kept: usize,
}

/// Replaces the content of a file by bytes that have arrived. They count for the owner of the file.
///
/// # Errors
///
/// As [`ready`]; [`FilesError::Lost`] if the upload was given up meanwhile; [`FilesError::Quota`] of the owner, where another
/// user uploads.
pub(crate) async fn replace(
    tx: &mut TenantTx,
    facts: Facts,
    replace: Replace,
) -> Result<Audited<FileRow>, FilesError> {
    let row = ready(tx, replace.file, Some(&replace.seen)).await?;
    let (size, reserved) = (bytes(facts.size), bytes(facts.reserved));
    if !blobs::keep(tx, facts.blob, size, reserved).await? {
        return Err(FilesError::Lost);
    }
    let (used, free) = (
        Change {
            used: size,
            ..Change::default()
        },
        Change {
            reserved: -reserved,
            ..Change::default()
        },
    );
    settle(tx, facts.owner, free).await?;
    if facts.owner == row.owner_id {
        settle(tx, row.owner_id, used).await?;
    } else {
        take(tx, row.owner_id, used, replace.quotas).await?;
    }
    let content = VersionRow {
        number: row.content().number + 1,
        blob_id: facts.blob,
        size,
        sha256: facts.sha256.hex(),
        media_type: facts.media_type,
        type_declared: replace.declared,
        created_by: facts.owner,
        created_at: Moment::now(),
        ..VersionRow::of(&row)
    };
    let mut changed = change(tx, row, content, replace.kept).await?;
    if facts.scans {
        files::turn(tx, &changed, (READY, SCANNING)).await?;
        changed.state = SCANNING.to_owned();
        tx.enqueue(&Scan { file: changed.id }).await?;
    } else {
        tx.emit(&FileUpdated::of(&changed, false, true))?;
    }
    Ok(record(tx, REPLACE, changed.id)?.of(changed))
}

/// A file whose content can be replaced: it is not in the trash, and what it has now was found clean.
///
/// # Errors
///
/// As [`present`]; [`FilesError::State`].
async fn ready(
    tx: &mut TenantTx,
    id: FileId,
    seen: Option<&IfMatch>,
) -> Result<FileRow, FilesError> {
    let row = present(tx, id, seen).await?;
    match row.state.as_str() {
        READY => Ok(row),
        _ => Err(FilesError::State(row.shown_state().to_owned())),
    }
}

/// A content of a file by its number: the file as it would be with it.
///
/// # Errors
///
/// [`FilesError::NotFound`], also for a file in the trash; [`FilesError::NoVersion`].
pub(crate) async fn readable(
    tx: &mut TenantTx,
    file: FileId,
    number: i64,
) -> Result<FileRow, FilesError> {
    let row = super::files::readable(tx, file).await?;
    if row.content().number == number {
        return Ok(row);
    }
    let content = store::find(tx, file, number).await?;
    Ok(with(row, content.ok_or(FilesError::NoVersion)?))
}

/// The contents of a file, the newest first; the first is the one that it has now.
///
/// # Errors
///
/// [`FilesError::NotFound`].
pub(crate) async fn list(tx: &mut TenantTx, file: FileId) -> Result<Vec<VersionRow>, FilesError> {
    let row = find(tx, file).await?;
    let mut contents = vec![VersionRow::of(&row)];
    contents.append(&mut store::list(tx, file).await?);
    Ok(contents)
}

/// Has a former content replace the one that the file has now. No byte is copied or used more.
///
/// # Errors
///
/// As [`ready`]; [`FilesError::NoVersion`].
pub(crate) async fn restore(
    tx: &mut TenantTx,
    file: FileId,
    number: i64,
    kept: usize,
) -> Result<Audited<FileRow>, FilesError> {
    let row = ready(tx, file, None).await?;
    let former = store::find(tx, file, number).await?;
    let former = former.ok_or(FilesError::NoVersion)?;
    if !store::delete(tx, &former).await? {
        return Err(PreconditionFailed.into());
    }
    let content = VersionRow {
        number: row.content().number + 1,
        ..former
    };
    let changed = change(tx, row, content, kept).await?;
    tx.emit(&FileUpdated::of(&changed, false, true))?;
    Ok(record(tx, RESTORE_VERSION, file)?.of(changed))
}

/// Deletes a former content for good, if the client has seen that it is one.
///
/// # Errors
///
/// As [`find`]; [`FilesError::NoVersion`], also for the content that the file has now; [`FilesError::Changed`].
pub(crate) async fn delete(
    tx: &mut TenantTx,
    file: FileId,
    number: i64,
    seen: &IfMatch,
) -> Result<Audited<()>, FilesError> {
    let row = find(tx, file).await?;
    let former = store::find(tx, file, number).await?;
    let former = former.ok_or(FilesError::NoVersion)?;
    seen.check(FORMER)?;
    forget(tx, &row, former).await?;
    Ok(record(tx, DELETE_VERSION, file)?.of(()))
}

/// Deletes all former contents of a file that goes for good.
pub(crate) async fn delete_all(tx: &mut TenantTx, row: &FileRow) -> Result<(), FilesError> {
    for former in store::list(tx, row.id).await? {
        forget(tx, row, former).await?;
    }
    Ok(())
}

/// Gives a file another content; the one that it had is kept, and the oldest go that are too many.
async fn change(
    tx: &mut TenantTx,
    row: FileRow,
    content: VersionRow,
    kept: usize,
) -> Result<FileRow, FilesError> {
    let before = VersionRow::of(&row);
    // First, since another request may have replaced it meanwhile, and have kept the same content.
    let changed = files::update(tx, with(row, content)).await?;
    let changed = changed.ok_or(PreconditionFailed)?;
    store::insert(tx, before).await?;
    for former in store::list(tx, changed.id).await?.into_iter().skip(kept) {
        forget(tx, &changed, former).await?;
    }
    Ok(changed)
}

/// A file with another content.
fn with(row: FileRow, content: VersionRow) -> FileRow {
    FileRow {
        blob_id: content.blob_id,
        size: content.size,
        sha256: content.sha256,
        media_type: content.media_type,
        details: Json(Details {
            type_declared: content.type_declared,
            content: Some(Replacement {
                number: content.number,
                by: content.created_by,
                at: content.created_at,
            }),
            ..row.details.0
        }),
        ..row
    }
}

/// Deletes a former content. If no file has its bytes any more, they are to go.
async fn forget(tx: &mut TenantTx, row: &FileRow, former: VersionRow) -> Result<(), FilesError> {
    if !store::delete(tx, &former).await? {
        return Err(PreconditionFailed.into());
    }
    blobs::unshare(tx, former.blob_id).await?;
    let change = Change {
        used: -former.size,
        ..Change::default()
    };
    settle(tx, row.owner_id, change).await
}
