//! The audit entries of notes: additions, changes and deletions. Their texts do not belong there.

use dotmac_platform::{
    audit::{Audit as _, AuditError, AuditedAct, Entry, Recorded},
    db::{TenantTx, types::Id},
};

use crate::store::Note;

pub(crate) const ADD: AuditedAct = AuditedAct::new("note_add", "A note was added.");
pub(crate) const CHANGE: AuditedAct = AuditedAct::new("note_change", "A note was changed.");
pub(crate) const DELETE: AuditedAct = AuditedAct::new("note_delete", "A note was deleted.");

/// All acts of the module.
pub(crate) const ACTS: &[AuditedAct] = &[ADD, CHANGE, DELETE];

/// Records an act upon a note in the transaction that does it. A rule proves by [`Recorded::of`] that it did.
pub(crate) fn record(
    tx: &mut TenantTx,
    act: AuditedAct,
    note: Id<Note>,
) -> Result<Recorded, AuditError> {
    tx.audit(Entry::new(act.name(), "notes.note", note.to_string()))
}
