//! Takes requests apart, calls rules, puts answers together.

mod batch;
mod bodies;
mod content;
mod direct;
mod files;
mod links;
mod renditions;
mod tus;
mod uploads;
mod versions;

use std::time::Duration;

use dotmac_platform::prelude::*;

use crate::{FilesError, FilesSettings, store::files::FileRow};
use bodies::FileBody;
pub(crate) use links::declare_public;

const MINUTE: Duration = Duration::from_secs(60);

/// How often one caller may upload.
const UPLOADS: RateLimit = RateLimit::per_principal(6000, MINUTE);

/// How often one caller may ask for what is made of files.
const RENDITIONS: RateLimit = RateLimit::per_principal(6000, MINUTE);

/// What a form has around its file, in bytes: its lines, a name, a folder and metadata.
const FORM: usize = 256 * 1024;

pub(crate) fn declare(routes: &mut Routes, settings: &FilesSettings) {
    routes.no_store();
    let (most, longest) = (settings.max_upload(), settings.upload_timeout);
    routes
        .put("/content", uploads::upload)
        .summary("Upload a file as the body of the request")
        .description(
            "`Content-Digest: sha-256=:…:` or `X-Content-SHA256` is compared with what has arrived. The type is found out from \
             the bytes; a `Content-Type` that says of something else that it is an image, a sound, a film, a font or a PDF is refused.",
        )
        .body_limit(most)
        .time_limit(longest)
        .rate_limit(UPLOADS);
    routes
        .post("", uploads::upload_form)
        .summary("Upload a file by a form")
        .description("Fields: `file`, and optionally `name`, `folder` and `metadata` (a JSON object), in any order.")
        .body_limit(most.saturating_add(FORM))
        .time_limit(longest)
        .rate_limit(UPLOADS);
    routes
        .get("", files::list)
        .summary("The tenant's files, the newest first");
    routes
        .get("/usage", files::usage)
        .summary("Used bytes, and the quotas");
    routes
        .post("/batch", batch::batch)
        .summary("Move, copy, delete and restore up to 100 files independently")
        .description(
            "Each item succeeds or fails independently; the answer has the result of each.",
        );
    routes.get("/{id}", files::find).summary("One file");
    routes
        .patch("/{id}", files::change)
        .summary("Change the name, the folder or the metadata of a file");
    routes
        .delete("/{id}", files::delete)
        .summary("Put a file into the trash");
    routes
        .get("/{id}/content", content::content)
        .summary("The bytes of a file");
    routes
        .get("/{id}/renditions/{rendition}", renditions::image)
        .summary("An image in another size: `400x300.webp`")
        .description(
            "As large as fits into the width and the height, and not larger than it is; `jpg`, `png` or `webp`. It is turned as EXIF \
             says, and has nothing of the file but its pixels. It is made when it is first asked for, and kept.",
        )
        .rate_limit(RENDITIONS);
    routes
        .get("/{id}/text", renditions::text)
        .summary("The text of a PDF")
        .rate_limit(RENDITIONS);
    routes
        .get("/{id}/info", renditions::info)
        .summary("The metadata of an image or a PDF")
        .rate_limit(RENDITIONS);
    routes
        .post("/{id}/move", files::move_to)
        .summary("Move a file to another folder, or give it another name");
    routes
        .post("/{id}/copy", files::copy)
        .summary("Copy a file; its bytes are not copied");
    routes
        .post("/{id}/restore", files::restore)
        .summary("Restore a file from the trash");
    versions::declare(routes, settings);
    links::declare(routes);
    tus::declare(routes, settings);
    direct::declare(routes, settings);
}

fn versioned(row: FileRow) -> Versioned<FileBody> {
    Versioned {
        version: row.version,
        body: row.into(),
    }
}

fn created(row: FileRow) -> Created<Versioned<FileBody>> {
    Created {
        location: format!("/api/v1/files/{}", row.id),
        body: versioned(row),
    }
}

type FileReply = Result<Versioned<FileBody>, FilesError>;
