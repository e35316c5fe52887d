//! Acts of the audit log: uploads, changes, copies, deletions, restorations and findings of scans. They do not contain names of
//! files.

use dotmac_platform::{
    audit::{Audit as _, AuditError, AuditedAct, Entry, Recorded},
    db::TenantTx,
};

use crate::store::files::FileId;

pub(crate) const UPLOAD: AuditedAct = AuditedAct::new("file_upload", "A file was uploaded.");
pub(crate) const CHANGE: AuditedAct = AuditedAct::new(
    "file_change",
    "The name, the folder or the metadata of a file was changed.",
);
pub(crate) const COPY: AuditedAct = AuditedAct::new("file_copy", "A file was copied.");
pub(crate) const DELETE: AuditedAct = AuditedAct::new("file_delete", "A file went to the trash.");
pub(crate) const RESTORE: AuditedAct =
    AuditedAct::new("file_restore", "A file was restored from the trash.");
pub(crate) const PURGE: AuditedAct =
    AuditedAct::new("file_purge", "A file in the trash was deleted permanently.");
pub(crate) const LINK: AuditedAct = AuditedAct::new("file_link", "A link to a file was created.");
pub(crate) const REPLACE: AuditedAct =
    AuditedAct::new("file_replace", "The content of a file was replaced.");
pub(crate) const RESTORE_VERSION: AuditedAct = AuditedAct::new(
    "file_version_restore",
    "A former content of a file was restored.",
);
pub(crate) const DELETE_VERSION: AuditedAct = AuditedAct::new(
    "file_version_delete",
    "A former content of a file was deleted permanently.",
);
pub(crate) const UNLINK: AuditedAct =
    AuditedAct::new("file_unlink", "A link to a file was revoked.");

pub(crate) const QUARANTINE: AuditedAct =
    AuditedAct::new("file_quarantine", "A virus was found in a file.");
pub(crate) const REJECT: AuditedAct = AuditedAct::new(
    "file_reject",
    "A file that cannot be scanned for viruses was rejected.",
);

/// All acts of the module.
pub(crate) const ACTS: &[AuditedAct] = &[
    UPLOAD,
    CHANGE,
    COPY,
    DELETE,
    RESTORE,
    PURGE,
    LINK,
    UNLINK,
    REPLACE,
    RESTORE_VERSION,
    DELETE_VERSION,
    QUARANTINE,
    REJECT,
];

/// Records an act upon a file in the transaction that does it.
pub(crate) fn record(
    tx: &mut TenantTx,
    act: AuditedAct,
    file: FileId,
) -> Result<Recorded, AuditError> {
    tx.audit(Entry::new(act.name(), "files.file", file.to_string()))
}
