//! What may happen with notes. Each rule is a function over a transaction of one tenant.

use dotmac_platform::db::{TenantTx, types::Id};

use crate::{
    NotesError, NotesSettings,
    store::{self, Note},
};

/// Adds a note with its tags, each once.
///
/// # Errors
///
/// [`NotesError::TooLong`], [`NotesError::TooMany`]; nothing is stored then.
pub(crate) async fn add(
    tx: &mut TenantTx,
    settings: &NotesSettings,
    text: String,
    mut tags: Vec<String>,
) -> Result<Note, NotesError> {
    let (length, most) = (text.chars().count(), settings.max_length);
    if length > most {
        return Err(NotesError::TooLong { length, most });
    }
    if store::count(tx).await? >= i64::from(settings.max_notes) {
        return Err(NotesError::TooMany(settings.max_notes));
    }
    tags.sort();
    tags.dedup();
    let note = Note::new(tx.tenant(), text, tags);
    store::insert(tx, &note).await?;
    Ok(note)
}

/// The note of that id.
///
/// # Errors
///
/// [`NotesError::NotFound`], also for one of another tenant.
pub(crate) async fn find(tx: &mut TenantTx, id: Id<Note>) -> Result<Note, NotesError> {
    store::find(tx, id).await?.ok_or(NotesError::NotFound)
}

/// Deletes the note of that id, and its tags.
///
/// # Errors
///
/// [`NotesError::NotFound`], also for one of another tenant.
pub(crate) async fn delete(tx: &mut TenantTx, id: Id<Note>) -> Result<(), NotesError> {
    match store::delete(tx, id).await? {
        0 => Err(NotesError::NotFound),
        _ => Ok(()),
    }
}
