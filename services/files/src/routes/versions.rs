//! The contents that a file has had.

use dotmac_platform::{
    audit::Acts as _,
    prelude::*,
    routing::{Content, ContentRequest, IncomingBody, RequestHead, etag},
};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    FileReply, UPLOADS,
    bodies::FileBody,
    content::{part_of, send},
    uploads::shortened,
    versioned,
};
use crate::{
    Delete, FilesError, FilesSettings, Read, Write,
    digest::Announced,
    rules::{
        files::present,
        versions::{self as rules, Replace},
    },
    service::Service,
    store::{files::FileId, versions::VersionRow},
    upload::{Goal, Intent, receive},
};

/// A content of a file.
#[derive(Serialize, ToSchema)]
#[schema(as = FileVersion)]
pub(super) struct VersionBody {
    /// 1 for the first content, one more for each that replaced another.
    number: i64,
    /// Whether the file has it now.
    is_current: bool,
    /// Its size in bytes.
    size: i64,
    /// Its SHA-256, in 64 hexadecimal digits.
    sha256: String,
    /// What it is, by its bytes.
    #[serde(rename = "type")]
    media_type: String,
    /// What its sender said that it is.
    type_declared: Option<String>,
    /// Its sender: a user, a service account or a key.
    created_by: Uuid,
    created_at: Moment,
    /// Changes when another content replaces it.
    etag: String,
}

impl From<VersionRow> for VersionBody {
    fn from(row: VersionRow) -> Self {
        Self {
            number: row.number,
            is_current: false,
            size: row.size,
            sha256: row.sha256,
            media_type: row.media_type,
            type_declared: row.type_declared,
            created_by: row.created_by.uuid(),
            created_at: row.created_at,
            etag: etag(rules::FORMER),
        }
    }
}

pub(super) fn declare(routes: &mut Routes, settings: &FilesSettings) {
    routes
        .put("/{id}/content", replace_content)
        .summary("Replace the content of a file by the body of the request")
        .description("The content that it had is kept as a version. Hashes and types are checked as of a new file.")
        .body_limit(settings.max_upload())
        .time_limit(settings.upload_timeout)
        .rate_limit(UPLOADS);
    routes
        .get("/{id}/versions", list_versions)
        .summary("The contents of a file, newest first");
    routes
        .get("/{id}/versions/{number}/content", version_content)
        .summary("The bytes of a former content of a file");
    routes
        .post("/{id}/versions/{number}/restore", restore_version)
        .summary("Restore a former content of a file");
    routes
        .delete("/{id}/versions/{number}", delete_version)
        .summary("Delete a former content of a file permanently");
}

async fn replace_content(
    who: Can<Write>,
    on: Use<Service>,
    id: Path<FileId>,
    seen: IfMatch,
    head: RequestHead,
    mut body: IncomingBody,
) -> Result<Versioned<FileBody>, FilesError> {
    let (digest, file) = (Announced::of(&head)?, *id);
    let db = on.db.tenant(&who.scope());
    let early = seen.clone();
    // Before the first byte, and again with the last.
    let found = db.read("find file to replace", async move |tx| {
        present(tx, file, Some(&early)).await
    });
    found.await?;
    let declared = body.content_type().map(str::to_owned);
    let intent = Intent {
        announced: body.announced(),
        declared: declared.as_deref(),
        digest: &digest,
    };
    let received = receive(&on, &who, intent, &mut body).await?;
    let replace = Replace {
        file,
        seen,
        declared: declared.map(shortened),
        quotas: on.quotas(),
        kept: on.settings.versions,
    };
    received.keep(Goal::Replace(replace)).await.map(versioned)
}

async fn list_versions(
    who: Can<Read>,
    on: Use<Service>,
    id: Path<FileId>,
) -> Result<Page<VersionBody>, FilesError> {
    let db = on.db.tenant(&who.scope());
    let listed = db.read("list versions", async move |tx| rules::list(tx, *id).await);
    let mut versions: Vec<_> = listed.await?.into_iter().map(VersionBody::from).collect();
    if let Some(current) = versions.first_mut() {
        current.is_current = true;
        current.etag = etag(rules::CURRENT);
    }
    Ok(Page::whole(versions))
}

async fn version_content(
    who: Can<Read>,
    on: Use<Service>,
    place: Path<(FileId, i64)>,
    wanted: ContentRequest,
) -> Result<Content, FilesError> {
    let (file, number) = *place;
    let db = on.db.tenant(&who.scope());
    let found = db.read("find version to read", async move |tx| {
        rules::readable(tx, file, number).await
    });
    let row = found.await?;
    let part = part_of(&row, &wanted)?;
    send(&on, &row, part, wanted.is_head()).await
}

async fn restore_version(
    who: Can<Write>,
    on: Use<Service>,
    place: Path<(FileId, i64)>,
) -> FileReply {
    let ((file, number), kept) = (*place, on.settings.versions);
    let db = on.db.tenant(&who.scope());
    let restored = db.act("restore version", async move |tx| {
        rules::restore(tx, file, number, kept).await
    });
    Ok(versioned(restored.await?))
}

async fn delete_version(
    who: Can<Delete>,
    on: Use<Service>,
    place: Path<(FileId, i64)>,
    seen: IfMatch,
) -> Result<NoContent, FilesError> {
    let (file, number) = *place;
    let db = on.db.tenant(&who.scope());
    let deleted = db.act("delete version", async move |tx| {
        rules::delete(tx, file, number, &seen).await
    });
    deleted.await?;
    Ok(NoContent)
}
