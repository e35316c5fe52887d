//! The events of notes, for subscribers; and the service's own subscriber.

use dotmac_platform::{
    db::{DbError, TenantTx, types::Id},
    events::{Event, Received},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{store::Note, tags};

/// A note was added.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct NoteAdded {
    /// Its id.
    pub note: Id<Note>,
    /// Its tags.
    pub tags: Vec<String>,
}

impl Event for NoteAdded {
    const TYPE: &'static str = "note.added.v1";

    fn subject(&self) -> String {
        format!("notes/{}", self.note)
    }
}

/// Counts how often each tag was given. Each event is counted once, even if the process is killed: the count is
/// committed together with the subscriber's cursor.
pub(crate) async fn count_tags(
    tx: &mut TenantTx,
    added: Received<NoteAdded>,
) -> Result<(), DbError> {
    for tag in &added.tags {
        tags::count(tx, tag).await?;
    }
    Ok(())
}
