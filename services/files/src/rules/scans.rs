//! Rules for a file that was scanned for viruses. Before that it cannot be read.

use dotmac_platform::{audit::Audited, db::TenantTx, events::Emit as _};

use crate::{
    FilesError,
    audit::{QUARANTINE, REJECT, record},
    events::{FileCreated, FileQuarantined, FileUpdated},
    store::files::{self as store, FileRow, QUARANTINED, READY, REJECTED, SCANNING},
};

/// It is clean, and can be read from now on; whether it was still to be scanned.
///
/// # Errors
///
/// The database or the event.
pub(crate) async fn pass(tx: &mut TenantTx, row: FileRow) -> Result<bool, FilesError> {
    let passed = store::turn(tx, &row, (SCANNING, READY)).await?;
    if passed && row.details.0.content.is_some() {
        tx.emit(&FileUpdated::of(&row, false, true))?;
    } else if passed {
        tx.emit(&FileCreated::of(&row))?;
    }
    Ok(passed)
}

/// It has a virus.
///
/// # Errors
///
/// As [`pass`]; [`FilesError::State`] if it was not to be scanned any more.
pub(crate) async fn quarantine(
    tx: &mut TenantTx,
    row: FileRow,
    finding: &str,
) -> Result<Audited<()>, FilesError> {
    if !store::turn(tx, &row, (SCANNING, QUARANTINED)).await? {
        return Err(FilesError::State(row.state));
    }
    tx.emit(&FileQuarantined::of(&row, finding))?;
    Ok(record(tx, QUARANTINE, row.id)?.of(()))
}

/// It cannot be scanned to its end.
///
/// # Errors
///
/// As [`quarantine`].
pub(crate) async fn reject(tx: &mut TenantTx, row: FileRow) -> Result<Audited<()>, FilesError> {
    if !store::turn(tx, &row, (SCANNING, REJECTED)).await? {
        return Err(FilesError::State(row.state));
    }
    Ok(record(tx, REJECT, row.id)?.of(()))
}

/// Whether a file is to be scanned.
pub(crate) fn is_due(row: &FileRow) -> bool {
    row.state == SCANNING
}
