//! Uploads whose parts clients send to the store themselves.

use std::collections::BTreeMap;

use dotmac_platform::prelude::*;
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{FileReply, UPLOADS, uploads::shortened, versioned};
use crate::{
    FilesError, FilesSettings, Write,
    digest::Sha256,
    direct::{self, Announcement, Part},
    names::ROOT,
    rules::{
        direct as rules,
        files::{Create, Labels},
    },
    service::Service,
    store::files::FileId,
};

/// A file that is to be sent to the store.
#[derive(Deserialize, Validate, ToSchema)]
pub(super) struct DirectPost {
    /// Its name: at most 255 bytes, without control characters, and no path.
    #[garde(skip)]
    #[schema(example = "film.mp4")]
    name: String,
    /// Its size in bytes.
    #[garde(skip)]
    #[schema(example = 1_073_741_824)]
    size: u64,
    /// Its SHA-256, in 64 hexadecimal digits.
    #[garde(skip)]
    #[schema(example = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")]
    sha256: String,
    /// What it is, as its sender says.
    #[serde(rename = "type")]
    #[garde(skip)]
    #[schema(example = "video/mp4")]
    media_type: Option<String>,
    /// The folder that it goes to: `/`, unless it is given.
    #[garde(skip)]
    folder: Option<String>,
    /// Up to 64 keys with texts.
    #[serde(default)]
    #[garde(skip)]
    metadata: BTreeMap<String, String>,
}

/// An upload to the store.
#[derive(Serialize, ToSchema)]
#[schema(as = DirectUpload)]
pub(super) struct DirectBody {
    /// The id that the file will have.
    file_id: Uuid,
    /// Until when its parts can be sent.
    expires_at: Moment,
    /// In the order of the bytes.
    parts: Vec<PartBody>,
}

/// A part of it, which is sent by `PUT`.
#[derive(Serialize, ToSchema)]
#[schema(as = DirectPart)]
pub(super) struct PartBody {
    /// Its number, from 1 on.
    n: usize,
    /// Where it is sent to, without any credentials.
    url: String,
    /// Headers that the request must have: none so far.
    headers: BTreeMap<String, String>,
    /// Where it begins in the file.
    offset: u64,
    /// Its size in bytes.
    size: u64,
}

impl PartBody {
    fn new(place: usize, part: Part) -> Self {
        Self {
            n: place + 1,
            url: part.url.into(),
            headers: BTreeMap::new(),
            offset: part.offset,
            size: part.size,
        }
    }
}

pub(super) fn declare(routes: &mut Routes, settings: &FilesSettings) {
    routes
        .post("/direct", begin_direct)
        .summary("Begin an upload whose parts are sent to the store")
        .description("Only where the store speaks S3. Send each part by `PUT` to its address, then ask for `/files/{id}/complete`.")
        .secret_answer()
        .rate_limit(UPLOADS);
    routes
        .post("/{id}/complete", complete_direct)
        .summary("Verify an upload whose parts were sent to the store, and make a file of it")
        .time_limit(settings.upload_timeout)
        .rate_limit(UPLOADS);
}

async fn begin_direct(
    who: Can<Write>,
    on: Use<Service>,
    post: Valid<DirectPost>,
    once: Idempotency,
) -> Result<Created<DirectBody>, FilesError> {
    let post = post.into_inner();
    let hash = Sha256::from_hex(&post.sha256);
    let hash =
        hash.ok_or_else(|| FilesError::field("sha256", "must have 64 hexadecimal digits"))?;
    let labels = Labels {
        name: post.name,
        folder: post.folder.unwrap_or_else(|| ROOT.to_owned()),
        metadata: post.metadata,
    };
    let announcement = Announcement {
        size: post.size,
        sha256: hash.hex(),
        create: Create {
            labels: labels.checked()?,
            declared: post.media_type.map(shortened),
        },
    };
    let expiry = direct::expiry(&on);
    let parts = direct::addresses(&on, post.size, expiry).await?;
    let (owner, terms) = (Id::from_uuid(who.id), (on.quotas(), expiry));
    let db = on.db.tenant(&who.scope());
    let begun = db.transaction("begin direct upload", async move |tx| {
        let upload = rules::begin(tx, owner, announcement, &parts, terms).await?;
        let parts = parts.into_iter().enumerate();
        let body = DirectBody {
            file_id: upload.id.uuid(),
            expires_at: upload.expires_at,
            parts: parts
                .map(|(place, part)| PartBody::new(place, part))
                .collect(),
        };
        let location = format!("/api/v1/files/{}", upload.id);
        Ok::<_, FilesError>(once.keep(tx, Created { location, body }))
    });
    begun.await
}

async fn complete_direct(who: Can<Write>, on: Use<Service>, id: Path<FileId>) -> FileReply {
    Ok(versioned(direct::complete(&on, &who, *id).await?))
}
