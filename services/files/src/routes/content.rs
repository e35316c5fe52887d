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
    let part = part_of(&row, &wanted)?;
    send(&on, &row, part, wanted.is_head()).await
}

/// What a request wants of a file.
pub(super) fn part_of(row: &FileRow, wanted: &ContentRequest) -> Result<ContentPart, FilesError> {
    Ok(wanted.part(&facts(row))?)
}

/// Sends a part of a file, or only the head of the answer.
pub(super) async fn send(
    on: &Service,
    row: &FileRow,
    part: ContentPart,
    is_head: bool,
) -> Result<Content, FilesError> {
    let facts = facts(row);
    let range = match &part {
        ContentPart::NotModified => return Ok(Content::head(facts, part)),
        _ if is_head => return Ok(Content::head(facts, part)),
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

/// What an answer says of a file.
fn facts(row: &FileRow) -> ContentFacts {
    ContentFacts {
        size: u64::try_from(row.size).unwrap_or_default(),
        tag: row.sha256.clone(),
        modified: row.content().at.into(),
        media_type: media::with_charset(&row.media_type),
        name: row.name.clone(),
        is_inline: media::is_inline(&row.media_type),
    }
}
