//! Renditions: images in other sizes, texts and metadata of files.

use dotmac_platform::{
    access::Principal,
    prelude::*,
    routing::{Content, ContentFacts, ContentPart, ContentRequest},
};
use futures_util::TryStreamExt as _;

use crate::{
    FilesError, Read,
    decoding::{Info, Task},
    media, metrics, rendering,
    rules::files as rules,
    service::Service,
    store::{
        files::{FileId, FileRow},
        renditions::RenditionRow,
    },
};

pub(super) async fn image(
    who: Can<Read>,
    on: Use<Service>,
    path: Path<(FileId, String)>,
    wanted: ContentRequest,
) -> Result<Content, FilesError> {
    let (id, name) = path.into_inner();
    let task = Task::of_image(&name).ok_or_else(|| {
        let problem =
            "is WIDTHxHEIGHT.FORMAT: two numbers from 1 to 4096, and `jpg`, `png` or `webp`";
        FilesError::field("rendition", problem)
    })?;
    content(&on, &who, id, task, &wanted).await
}

pub(super) async fn text(
    who: Can<Read>,
    on: Use<Service>,
    id: Path<FileId>,
    wanted: ContentRequest,
) -> Result<Content, FilesError> {
    content(&on, &who, *id, Task::Text, &wanted).await
}

pub(super) async fn info(
    who: Can<Read>,
    on: Use<Service>,
    id: Path<FileId>,
) -> Result<Json<Info>, FilesError> {
    let (_, row) = made(&on, &who, *id, Task::Info).await?;
    let size = u64::try_from(row.size).unwrap_or_default();
    let pieces = read(&on, &who, row, 0..size).await?;
    let bytes = pieces.map_ok(|piece| piece.to_vec()).try_concat().await?;
    let info = serde_json::from_slice(&bytes).map_err(Problem::internal)?;
    Ok(Json(info))
}

async fn content(
    on: &Service,
    who: &Principal,
    id: FileId,
    task: Task,
    wanted: &ContentRequest,
) -> Result<Content, FilesError> {
    let (file, row) = made(on, who, id, task).await?;
    let facts = facts(&file, &row, task);
    let part = wanted.part(&facts)?;
    let range = match &part {
        ContentPart::NotModified => return Ok(Content::head(facts, part)),
        _ if wanted.is_head() => return Ok(Content::head(facts, part)),
        ContentPart::Whole => 0..facts.size,
        ContentPart::Range(range) => range.clone(),
    };
    let pieces = read(on, who, row, range).await?;
    let counted = pieces.inspect_ok(|piece| metrics::sent(piece.len()));
    Ok(Content::new(facts, part, counted))
}

/// A file that can be read, and what is made of it.
async fn made(
    on: &Service,
    who: &Principal,
    id: FileId,
    task: Task,
) -> Result<(FileRow, RenditionRow), FilesError> {
    let scope = who.scope();
    let db = on.db.tenant(&scope);
    let found = db.read("find file to read", async move |tx| {
        rules::readable(tx, id).await
    });
    let file = found.await?;
    let row = rendering::obtain(on, &scope, &file, task).await?;
    Ok((file, row))
}

type Pieces =
    futures_util::stream::BoxStream<'static, Result<bytes::Bytes, crate::storage::StorageError>>;

/// Its bytes. If they are missing in the store, the next request has them created again.
async fn read(
    on: &Service,
    who: &Principal,
    row: RenditionRow,
    range: std::ops::Range<u64>,
) -> Result<Pieces, FilesError> {
    let Some(blob) = row.blob_id else {
        return Err(FilesError::Pending);
    };
    match on.storage.read(blob, range).await {
        Ok(pieces) => Ok(pieces),
        Err(error) if error.is_absent() => {
            tracing::warn!(%blob, "the bytes of a rendition are not in the store; it is created again");
            rendering::forget(on, &who.scope(), row).await?;
            Err(FilesError::Pending)
        }
        Err(error) => Err(error.into()),
    }
}

/// What an answer says of it.
fn facts(file: &FileRow, row: &RenditionRow, task: Task) -> ContentFacts {
    let stem = file.name.rsplit_once('.').map_or(&*file.name, |it| it.0);
    let name = match task {
        Task::Image { .. } => format!("{stem}-{}", row.name),
        Task::Text => format!("{stem}.txt"),
        Task::Info => format!("{stem}.json"),
    };
    ContentFacts {
        size: u64::try_from(row.size).unwrap_or_default(),
        tag: row.sha256.clone(),
        modified: row.created_at.into(),
        media_type: media::with_charset(task.media_type()),
        name,
        is_inline: media::is_inline(task.media_type()),
    }
}
