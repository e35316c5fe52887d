//! Rules of files.

use std::collections::BTreeMap;

use dotmac_platform::{
    audit::Audited,
    db::{
        TenantTx,
        types::{Json, Moment},
    },
    events::Emit as _,
    jobs::Enqueue as _,
    routing::{IfMatch, InvalidRequest, PreconditionFailed},
};

use crate::{
    FilesError,
    audit::{CHANGE, COPY, DELETE, PURGE, RESTORE, UPLOAD, record},
    events::{FileCreated, FileDeleted, FileUpdated},
    jobs::Scan,
    names,
    rules::{settle, take, versions},
    service::{Quotas, bytes},
    store::{
        blobs,
        files::{self as store, Details, FileId, FileRow, READY, SCANNING},
        usage::{Change, OwnerId},
    },
    upload::Facts,
};

/// The most keys of metadata, and bytes of a key and of a value.
const MOST_KEYS: usize = 64;
const LONGEST_KEY: usize = 128;
const LONGEST_VALUE: usize = 1024;

/// What a client gives to a file.
#[derive(Clone, Debug)]
pub(crate) struct Labels {
    pub(crate) name: String,
    pub(crate) folder: String,
    pub(crate) metadata: BTreeMap<String, String>,
}

/// What a client changes of it; `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Relabel {
    pub(crate) name: Option<String>,
    pub(crate) folder: Option<String>,
    /// A merge patch: `None` takes a key away.
    pub(crate) metadata: Option<BTreeMap<String, Option<String>>>,
    /// Takes all of it away.
    pub(crate) clears_metadata: bool,
}

impl Labels {
    /// Checks and normalises them.
    ///
    /// # Errors
    ///
    /// 422 `validation` that names all fields at fault.
    pub(crate) fn checked(self) -> Result<Self, FilesError> {
        let (name, folder) = (names::name(&self.name), names::folder(&self.folder));
        let metadata = metadata(&self.metadata);
        match (name, folder, metadata) {
            (Ok(name), Ok(folder), Ok(())) => Ok(Self {
                name,
                folder,
                ..self
            }),
            (name, folder, metadata) => Err(invalid([
                ("name", name.err()),
                ("folder", folder.err()),
                ("metadata", metadata.err()),
            ])),
        }
    }
}

impl Relabel {
    /// What becomes of the labels of a file.
    ///
    /// # Errors
    ///
    /// As [`Labels::checked`].
    pub(crate) fn apply_to(self, row: &FileRow) -> Result<Labels, FilesError> {
        let mut kept = row.details.0.metadata.clone();
        if self.clears_metadata {
            kept.clear();
        }
        for (key, value) in self.metadata.into_iter().flatten() {
            match value {
                Some(value) => drop(kept.insert(key, value)),
                None => drop(kept.remove(&key)),
            }
        }
        let labels = Labels {
            name: self.name.unwrap_or_else(|| row.name.clone()),
            folder: self.folder.unwrap_or_else(|| row.folder.clone()),
            metadata: kept,
        };
        labels.checked()
    }
}

fn metadata(of: &BTreeMap<String, String>) -> Result<(), String> {
    if of.len() > MOST_KEYS {
        return Err(format!("has at most {MOST_KEYS} keys"));
    }
    for (key, value) in of {
        if key.is_empty() || key.len() > LONGEST_KEY || key.contains(char::is_control) {
            return Err(format!(
                "has keys of 1 to {LONGEST_KEY} bytes without control characters"
            ));
        }
        if value.len() > LONGEST_VALUE || value.contains('\0') {
            return Err(format!("has values of at most {LONGEST_VALUE} bytes"));
        }
    }
    Ok(())
}

fn invalid<const N: usize>(fields: [(&'static str, Option<String>); N]) -> FilesError {
    let fields = fields.into_iter();
    let wrong = fields.filter_map(|(field, problem)| Some((field, problem?)));
    InvalidRequest::fields(wrong).into()
}

/// A new file of bytes that have arrived.
pub(crate) struct Create {
    pub(crate) labels: Labels,
    pub(crate) declared: Option<String>,
}

/// Makes a file of bytes that have arrived.
///
/// # Errors
///
/// [`FilesError::Lost`] if the upload was given up meanwhile.
pub(crate) async fn create(
    tx: &mut TenantTx,
    id: FileId,
    facts: Facts,
    create: Create,
) -> Result<Audited<FileRow>, FilesError> {
    let (size, reserved) = (bytes(facts.size), bytes(facts.reserved));
    if !blobs::keep(tx, facts.blob, size, reserved).await? {
        return Err(FilesError::Lost);
    }
    let change = Change {
        used: size,
        reserved: -reserved,
        files: 1,
    };
    settle(tx, facts.owner, change).await?;
    let (now, labels) = (Moment::now(), create.labels);
    let row = FileRow {
        tenant_id: tx.tenant(),
        id,
        blob_id: facts.blob,
        name_folded: names::folded(&labels.name),
        name: labels.name,
        folder: labels.folder,
        size,
        sha256: facts.sha256.hex(),
        media_type: facts.media_type,
        state: if facts.scans { SCANNING } else { READY }.to_owned(),
        details: Json(Details {
            metadata: labels.metadata,
            type_declared: create.declared,
            content: None,
        }),
        owner_id: facts.owner,
        version: 1,
        created_at: now,
        updated_at: now,
        deleted_at: None,
    };
    store::insert(tx, row.clone()).await?;
    if facts.scans {
        tx.enqueue(&Scan { file: row.id }).await?;
    } else {
        tx.emit(&FileCreated::of(&row))?;
    }
    Ok(record(tx, UPLOAD, row.id)?.of(row))
}

/// The file of that id, in any state.
///
/// # Errors
///
/// [`FilesError::NotFound`], also for one of another tenant.
pub(crate) async fn find(tx: &mut TenantTx, id: FileId) -> Result<FileRow, FilesError> {
    store::find(tx, id).await?.ok_or(FilesError::NotFound)
}

/// The same, if it can be read. What is in the trash is not found.
///
/// # Errors
///
/// [`FilesError::NotFound`]; [`FilesError::State`] for one that was not checked to its end.
pub(crate) async fn readable(tx: &mut TenantTx, id: FileId) -> Result<FileRow, FilesError> {
    let row = find(tx, id).await?;
    match (row.deleted_at, row.state.as_str()) {
        (Some(_), _) => Err(FilesError::NotFound),
        (None, READY) => Ok(row),
        (None, state) => Err(FilesError::State(state.to_owned())),
    }
}

/// Changes labels of a file that is not in the trash, if it is in a version that the client has seen.
///
/// # Errors
///
/// [`FilesError::NotFound`], [`FilesError::State`], [`FilesError::Changed`], 422.
pub(crate) async fn change(
    tx: &mut TenantTx,
    id: FileId,
    seen: Option<&IfMatch>,
    relabel: Relabel,
) -> Result<Audited<FileRow>, FilesError> {
    let row = present(tx, id, seen).await?;
    let labels = relabel.apply_to(&row)?;
    let row = FileRow {
        name_folded: names::folded(&labels.name),
        name: labels.name,
        folder: labels.folder,
        details: Json(Details {
            metadata: labels.metadata,
            ..row.details.0
        }),
        ..row
    };
    let changed = store::update(tx, row).await?.ok_or(PreconditionFailed)?;
    tx.emit(&FileUpdated::of(&changed, false, false))?;
    Ok(record(tx, CHANGE, id)?.of(changed))
}

/// Makes another file of the same bytes, the caller's own.
///
/// # Errors
///
/// As [`readable`] and [`take`]; 422.
pub(crate) async fn copy(
    tx: &mut TenantTx,
    id: FileId,
    owner: OwnerId,
    quotas: Quotas,
    relabel: Relabel,
) -> Result<Audited<FileRow>, FilesError> {
    let from = readable(tx, id).await?;
    let labels = relabel.apply_to(&from)?;
    if !blobs::share(tx, from.blob_id).await? {
        return Err(FilesError::NotFound);
    }
    let change = Change {
        used: from.size,
        reserved: 0,
        files: 1,
    };
    take(tx, owner, change, quotas).await?;
    let now = Moment::now();
    let row = FileRow {
        id: FileId::new(),
        name_folded: names::folded(&labels.name),
        name: labels.name,
        folder: labels.folder,
        details: Json(Details {
            metadata: labels.metadata,
            content: None,
            ..from.details.0
        }),
        owner_id: owner,
        version: 1,
        created_at: now,
        updated_at: now,
        ..from
    };
    store::insert(tx, row.clone()).await?;
    tx.emit(&FileCreated::of(&row))?;
    Ok(record(tx, COPY, row.id)?.of(row))
}

/// Puts a file into the trash, if it is in a version that the client has seen.
///
/// # Errors
///
/// As [`change`].
pub(crate) async fn delete(
    tx: &mut TenantTx,
    id: FileId,
    seen: Option<&IfMatch>,
) -> Result<Audited<FileRow>, FilesError> {
    let row = present(tx, id, seen).await?;
    let row = FileRow {
        deleted_at: Some(Moment::now()),
        ..row
    };
    let deleted = store::update(tx, row).await?.ok_or(PreconditionFailed)?;
    tx.emit(&FileDeleted::of(&deleted, false))?;
    Ok(record(tx, DELETE, id)?.of(deleted))
}

/// Takes a file from the trash.
///
/// # Errors
///
/// [`FilesError::NotFound`]; [`FilesError::State`] for one that is not there; [`FilesError::Changed`].
pub(crate) async fn restore(tx: &mut TenantTx, id: FileId) -> Result<Audited<FileRow>, FilesError> {
    let row = find(tx, id).await?;
    if row.deleted_at.is_none() {
        return Err(FilesError::State(row.state));
    }
    let row = FileRow {
        deleted_at: None,
        ..row
    };
    let restored = store::update(tx, row).await?.ok_or(PreconditionFailed)?;
    tx.emit(&FileUpdated::of(&restored, true, false))?;
    Ok(record(tx, RESTORE, id)?.of(restored))
}

/// Deletes a file of the trash for good. If it was the last one of its bytes, they are to go.
///
/// # Errors
///
/// [`FilesError::Changed`] if it was restored meanwhile.
pub(crate) async fn purge(tx: &mut TenantTx, row: FileRow) -> Result<Audited<()>, FilesError> {
    versions::delete_all(tx, &row).await?;
    if !store::delete(tx, &row).await? {
        return Err(PreconditionFailed.into());
    }
    blobs::unshare(tx, row.blob_id).await?;
    let change = Change {
        used: -row.size,
        reserved: 0,
        files: -1,
    };
    settle(tx, row.owner_id, change).await?;
    tx.emit(&FileDeleted::of(&row, true))?;
    Ok(record(tx, PURGE, row.id)?.of(()))
}

/// A file that is not in the trash, in a version that the client has seen.
///
/// # Errors
///
/// [`FilesError::NotFound`], [`FilesError::State`], [`FilesError::Changed`].
pub(crate) async fn present(
    tx: &mut TenantTx,
    id: FileId,
    seen: Option<&IfMatch>,
) -> Result<FileRow, FilesError> {
    let row = find(tx, id).await?;
    if row.deleted_at.is_some() {
        return Err(FilesError::State(row.shown_state().to_owned()));
    }
    if let Some(seen) = seen {
        seen.check(row.version)?;
    }
    Ok(row)
}
