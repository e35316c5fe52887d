//! The rules of notes. Each rule is a function over a transaction of one tenant.

use dotmac_platform::{
    audit::Audited,
    db::{TenantTx, types::Id},
    events::Emit as _,
    routing::{Change, IfMatch, PreconditionFailed},
};

use crate::{
    NoteAdded, NotesError, NotesSettings,
    audit::{ADD, CHANGE, DELETE, record},
    store::{self, Note},
};

/// Adds a note with its tags, each once. Requests that come at once may exceed the number of notes by their number.
///
/// # Errors
///
/// [`NotesError::TooLong`], [`NotesError::TooMany`]; nothing is stored then.
pub(crate) async fn add(
    tx: &mut TenantTx,
    settings: &NotesSettings,
    text: String,
    tags: Vec<String>,
) -> Result<Audited<Note>, NotesError> {
    check_length(settings, &text)?;
    if store::count(tx).await? >= i64::from(settings.max_notes) {
        return Err(NotesError::TooMany(settings.max_notes));
    }
    let note = Note::new(tx.tenant(), text, each_once(tags));
    store::insert(tx, &note).await?;
    tx.emit(&NoteAdded {
        note: note.id,
        tags: note.tags.clone(),
    })?;
    Ok(record(tx, ADD, note.id)?.of(note))
}

/// The note of that id.
///
/// # Errors
///
/// [`NotesError::NotFound`], also for one of another tenant.
pub(crate) async fn find(tx: &mut TenantTx, id: Id<Note>) -> Result<Note, NotesError> {
    store::find(tx, id).await?.ok_or(NotesError::NotFound)
}

/// Changes the note of that id, if it is in a version that the client has seen. Tags that are cleared are none.
///
/// # Errors
///
/// [`NotesError::NotFound`], [`NotesError::Changed`], [`NotesError::TooLong`]; nothing is stored then.
pub(crate) async fn change(
    tx: &mut TenantTx,
    settings: &NotesSettings,
    id: Id<Note>,
    seen: &IfMatch,
    (text, tags): (Change<String>, Change<Vec<String>>),
) -> Result<Audited<Note>, NotesError> {
    let mut note = find(tx, id).await?;
    seen.check(note.version)?;
    if let Change::Set(text) = text {
        check_length(settings, &text)?;
        note.text = text;
    }
    note.tags = each_once(tags.apply_to(note.tags).unwrap_or_default());
    let changed = store::update(tx, note).await?;
    let changed = changed.ok_or(PreconditionFailed)?;
    Ok(record(tx, CHANGE, id)?.of(changed))
}

/// Deletes the note of that id, and its tags, if it is in a version that the client has seen.
///
/// # Errors
///
/// [`NotesError::NotFound`], also for one of another tenant; [`NotesError::Changed`].
pub(crate) async fn delete(
    tx: &mut TenantTx,
    id: Id<Note>,
    seen: &IfMatch,
) -> Result<Audited<()>, NotesError> {
    let note = find(tx, id).await?;
    seen.check(note.version)?;
    match store::delete(tx, id, note.version).await? {
        0 => Err(PreconditionFailed.into()),
        _ => Ok(record(tx, DELETE, id)?.of(())),
    }
}

fn check_length(settings: &NotesSettings, text: &str) -> Result<(), NotesError> {
    let (length, most) = (text.chars().count(), settings.max_length);
    if length > most {
        return Err(NotesError::TooLong { length, most });
    }
    Ok(())
}

fn each_once(mut tags: Vec<String>) -> Vec<String> {
    tags.sort();
    tags.dedup();
    tags
}
