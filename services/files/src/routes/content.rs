//! The bytes of a file.

use dotmac_platform::{
    prelude::*,
    routing::{Content, ContentFacts, ContentPart, ContentRequest},
};
use futures_util::TryStreamExt as _;

use crate::{
    FilesError, Read, media, metrics,
    rules::files as rules,
    service::Service,
    store::files::{FileId, FileRow},
};

pub(super) async fn content(
    who: Can<Read>,
    on: Use<Service>,
    id: Path<FileId>,
    wanted: ContentRequest,
) -> Result<Content, FilesError> {
    let db = on.db.tenant(&who.scope());
    let found = db.read("find file to read", async move |tx| {
        rules::readable(tx, *id).await
    });
    let row = found.await?;
    let facts = facts(&row);
    let part = wanted.part(&facts)?;
    let range = match &part {
        ContentPart::NotModified => return Ok(Content::head(facts, part)),
        _ if wanted.is_head() => return Ok(Content::head(facts, part)),
        ContentPart::Whole => 0..facts.size,
        ContentPart::Range(range) => range.clone(),
    };
    let pieces = on.storage.read(row.blob_id, range).await;
    let pieces = pieces.inspect_err(|error| {
        if error.is_absent() {
            tracing::error!(file = %row.id, blob = %row.blob_id, "the bytes of a file are not in the store");
        }
    })?;
    let counted = pieces.inspect_ok(|piece| metrics::sent(piece.len()));
    Ok(Content::new(facts, part, counted))
}

/// What an answer says of a file. Its bytes never change, so it was modified when it was made.
fn facts(row: &FileRow) -> ContentFacts {
    ContentFacts {
        size: u64::try_from(row.size).unwrap_or_default(),
        tag: row.sha256.clone(),
        modified: row.created_at.into(),
        media_type: media::with_charset(&row.media_type),
        name: row.name.clone(),
        is_inline: media::is_inline(&row.media_type),
    }
}
