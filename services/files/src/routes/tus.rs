//! Uploads that are resumed: tus 1.0 with creation, creation-with-upload, termination, checksum and expiration (tus.io).

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use dotmac_platform::{
    access::Principal,
    prelude::*,
    routing::{IncomingBody, RequestHead, WithHeaders},
};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{UPLOADS, uploads::shortened};
use crate::{
    FilesError, FilesSettings, Write,
    digest::Checksum,
    finishing,
    names::ROOT,
    resumable,
    rules::{
        files::{Create, Labels},
        uploads::{self as rules, Upload},
    },
    service::Service,
    store::{
        files::{FileId, FileRow},
        uploads::UploadRow,
    },
};

const VERSION: &str = "1.0.0";
const RESUMABLE: &str = "tus-resumable";
const LENGTH: &str = "upload-length";
const OFFSET: &str = "upload-offset";
const EXPIRES: &str = "upload-expires";
const METADATA: &str = "upload-metadata";
const EXTENSIONS: &str = "creation,creation-with-upload,termination,checksum,expiration";
const OFFSET_STREAM: &str = "application/offset+octet-stream";

/// An error as tus has it: with the header `Tus-Resumable`.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct TusError(#[from] FilesError);

impl ApiError for TusError {
    const PROBLEMS: &'static [ProblemType] = FilesError::PROBLEMS;

    fn into_problem(self) -> Problem {
        self.0.into_problem().text_header(RESUMABLE, VERSION)
    }
}

impl From<DbError> for TusError {
    fn from(error: DbError) -> Self {
        Self(error.into())
    }
}

/// An upload.
#[derive(Serialize, ToSchema)]
#[schema(as = Upload)]
pub(super) struct UploadBody {
    /// Its id, also that of the file that it becomes.
    id: Uuid,
    /// Bytes of the file.
    length: i64,
    /// Bytes that have come.
    received: i64,
    /// Until when it can be continued; nothing once it is a file.
    expires_at: Option<Moment>,
}

impl From<UploadRow> for UploadBody {
    fn from(row: UploadRow) -> Self {
        Self {
            id: row.id.uuid(),
            length: row.length,
            received: row.received,
            expires_at: Some(row.expires_at),
        }
    }
}

impl From<FileRow> for UploadBody {
    fn from(row: FileRow) -> Self {
        Self {
            id: row.id.uuid(),
            length: row.size,
            received: row.size,
            expires_at: None,
        }
    }
}

pub(super) fn declare(routes: &mut Routes, settings: &FilesSettings) {
    let most = usize::try_from(settings.max_size.bytes()).unwrap_or(usize::MAX);
    let longest = settings.upload_timeout;
    routes
        .options("/tus", tus_options)
        .summary("The supported extensions of tus 1.0");
    routes
        .post("/tus", tus_create)
        .summary(
            "Begin an upload that can be resumed (tus 1.0), with its first bytes if there are any",
        )
        .body_limit(most)
        .time_limit(longest)
        .rate_limit(UPLOADS);
    routes
        .get("/tus/{id}", tus_find)
        .summary("The offset of an upload; clients of tus send HEAD");
    routes
        .patch("/tus/{id}", tus_append)
        .summary("Go on with an upload")
        .body_limit(most)
        .time_limit(longest)
        .rate_limit(UPLOADS);
    routes
        .post("/tus/{id}", tus_override)
        .summary("Continue an upload, or end it, for proxies that block PATCH and DELETE")
        .description("`X-HTTP-Method-Override` says which: `PATCH` or `DELETE`.")
        .body_limit(most)
        .time_limit(longest)
        .rate_limit(UPLOADS);
    routes
        .delete("/tus/{id}", tus_end)
        .summary("End an upload, and delete its bytes");
}

type TusReply<R> = Result<WithHeaders<R>, TusError>;

pub(super) async fn tus_options(_: Public, on: Use<Service>) -> WithHeaders<NoContent> {
    tus(NoContent)
        .header("tus-version", VERSION)
        .header("tus-extension", EXTENSIONS)
        .header("tus-max-size", &on.settings.max_size.bytes().to_string())
        .header("tus-checksum-algorithm", Checksum::ALGORITHMS)
}

pub(super) async fn tus_create(
    who: Can<Write>,
    on: Use<Service>,
    head: RequestHead,
    mut body: IncomingBody,
) -> TusReply<Created<UploadBody>> {
    check_version(&head)?;
    let (length, most) = (number(&head, LENGTH)?, on.settings.max_size.bytes());
    if length > most {
        return Err(FilesError::TooLarge(most).into());
    }
    let create = described(head.header(METADATA).unwrap_or_default())?;
    let has_body = body.content_type() == Some(OFFSET_STREAM);
    let checksum = Checksum::of(&head)?;
    let (owner, terms) = (
        Id::from_uuid(who.id),
        (on.quotas(), on.settings.upload_expiry),
    );
    let db = on.db.tenant(&who.scope());
    let begun = db.transaction("begin resumable upload", async move |tx| {
        rules::begin(tx, owner, (length, None), create, terms).await
    });
    let mut upload = begun.await?;
    if has_body && length > 0 {
        // The upload exists even if its first bytes fail: its client sees how far it has come.
        match resumable::append(&on, &who, (upload.id, 0), checksum, &mut body).await {
            Ok(appended) => {
                let finished = appended.finish(&on, &who.scope()).await;
                unless_later(finished, &upload)?;
                upload = appended.upload;
            }
            Err(error) => {
                tracing::debug!(%error, upload = %upload.id, "the first bytes of an upload did not all come");
                upload = reread(&on, &who, upload).await?;
            }
        }
    }
    if length == 0 {
        let finished = finishing::finish(&on, &who.scope(), upload.clone(), &|| {}).await;
        unless_later(finished.map(drop), &upload)?;
    }
    let reply = tus(Created {
        location: format!("/api/v1/files/tus/{}", upload.id),
        body: upload.clone().into(),
    });
    Ok(progress(reply, &upload))
}

/// An upload as it is now, after an error; as it was if it is not open any more.
async fn reread(on: &Service, who: &Principal, upload: UploadRow) -> Result<UploadRow, FilesError> {
    let (owner, id) = (upload.owner_id, upload.id);
    let db = on.db.tenant(&who.scope());
    let found = db.read("find upload", async move |tx| {
        rules::find(tx, owner, id).await
    });
    Ok(match found.await? {
        Upload::Open(row) => row,
        Upload::File(_) => upload,
    })
}

pub(super) async fn tus_find(
    who: Can<Write>,
    on: Use<Service>,
    id: Path<FileId>,
    head: RequestHead,
) -> TusReply<Json<UploadBody>> {
    // A browser that opens the address sends none.
    if head.header(RESUMABLE).is_some() {
        check_version(&head)?;
    }
    let owner = Id::from_uuid(who.id);
    let db = on.db.tenant(&who.scope());
    let found = db.read("find upload", async move |tx| {
        rules::find(tx, owner, *id).await
    });
    let body: UploadBody = match found.await? {
        Upload::Open(row) => row.into(),
        Upload::File(row) => row.into(),
    };
    let (length, received) = (body.length.to_string(), body.received.to_string());
    let expires = body.expires_at.map(http_date);
    let reply = tus(Json(body))
        .header(OFFSET, &received)
        .header(LENGTH, &length);
    Ok(match expires {
        Some(expires) => reply.header(EXPIRES, &expires),
        None => reply,
    })
}

pub(super) async fn tus_append(
    who: Can<Write>,
    on: Use<Service>,
    id: Path<FileId>,
    head: RequestHead,
    mut body: IncomingBody,
) -> TusReply<NoContent> {
    append(&on, &who, *id, &head, &mut body).await
}

pub(super) async fn tus_end(
    who: Can<Write>,
    on: Use<Service>,
    id: Path<FileId>,
    head: RequestHead,
) -> TusReply<NoContent> {
    end(&on, &who, *id, &head).await
}

pub(super) async fn tus_override(
    who: Can<Write>,
    on: Use<Service>,
    id: Path<FileId>,
    head: RequestHead,
    mut body: IncomingBody,
) -> TusReply<NoContent> {
    const HEADER: &str = "x-http-method-override";
    match head.header(HEADER) {
        Some("PATCH") => append(&on, &who, *id, &head, &mut body).await,
        Some("DELETE") => end(&on, &who, *id, &head).await,
        _ => Err(FilesError::UploadHeader(HEADER, "must be `PATCH` or `DELETE`").into()),
    }
}

async fn append(
    on: &Service,
    who: &Principal,
    id: FileId,
    head: &RequestHead,
    body: &mut IncomingBody,
) -> TusReply<NoContent> {
    check_version(head)?;
    if body.content_type() != Some(OFFSET_STREAM) {
        return Err(FilesError::NoOffsetStream.into());
    }
    let (at, checksum) = (number(head, OFFSET)?, Checksum::of(head)?);
    let appended = resumable::append(on, who, (id, at), checksum, body).await?;
    let finished = appended.finish(on, &who.scope()).await;
    unless_later(finished, &appended.upload)?;
    Ok(progress(tus(NoContent), &appended.upload))
}

async fn end(on: &Service, who: &Principal, id: FileId, head: &RequestHead) -> TusReply<NoContent> {
    check_version(head)?;
    let (owner, scope) = (Id::from_uuid(who.id), who.scope());
    let db = on.db.tenant(&scope);
    let found = db.read("find upload", async move |tx| {
        rules::open(tx, owner, id).await
    });
    finishing::end(on, &scope, found.await?).await?;
    Ok(tus(NoContent))
}

/// What the store or the database does not do now the sweep does, and what another request does needs no answer here.
fn unless_later(finished: Result<(), FilesError>, upload: &UploadRow) -> Result<(), FilesError> {
    match finished {
        Ok(()) | Err(FilesError::Taken) => Ok(()),
        Err(error @ FilesError::TypeMismatch(_)) => Err(error),
        Err(error) => {
            tracing::warn!(%error, upload = %upload.id, "the file of a complete upload is created later");
            Ok(())
        }
    }
}

fn tus<R>(reply: R) -> WithHeaders<R> {
    WithHeaders::new(reply).header(RESUMABLE, VERSION)
}

/// The headers with the offset of an upload and its expiry.
fn progress<R>(reply: WithHeaders<R>, upload: &UploadRow) -> WithHeaders<R> {
    reply
        .header(OFFSET, &upload.received.to_string())
        .header(EXPIRES, &http_date(upload.expires_at))
}

/// RFC 9110, 5.6.7.
fn http_date(moment: Moment) -> String {
    let time: DateTime<Utc> = moment.into();
    time.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn check_version(head: &RequestHead) -> Result<(), FilesError> {
    match head.header(RESUMABLE) {
        Some(VERSION) => Ok(()),
        _ => Err(FilesError::TusVersion),
    }
}

fn number(head: &RequestHead, name: &'static str) -> Result<u64, FilesError> {
    let text = head.header(name).map(str::trim);
    let number = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = number.and_then(|text| text.parse().ok());
    number.ok_or(FilesError::UploadHeader(
        name,
        "is needed, as a number of bytes",
    ))
}

/// What `Upload-Metadata` says: `filename` (or `name`), `filetype` (or `type`), `folder`, and metadata of the file.
fn described(text: &str) -> Result<Create, FilesError> {
    let wrong = |problem| FilesError::UploadHeader(METADATA, problem);
    let mut given = BTreeMap::new();
    for pair in text
        .split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
    {
        let (key, value) = pair.split_once(' ').unwrap_or((pair, ""));
        let value = STANDARD.decode(value.trim());
        let value = value.map_err(|_| wrong("has values in base64"))?;
        let value = String::from_utf8(value).map_err(|_| wrong("has values in UTF-8"))?;
        if given.insert(key.to_owned(), value).is_some() {
            return Err(wrong("has each key once"));
        }
    }
    let mut first = |keys: [&str; 2]| {
        let mut values = keys.map(|key| given.remove(key)).into_iter();
        values.find_map(|value| value)
    };
    let name = first(["filename", "name"]).ok_or(wrong("needs `filename`"))?;
    let declared = first(["filetype", "type"]).filter(|declared| !declared.is_empty());
    let folder = given.remove("folder").unwrap_or_else(|| ROOT.to_owned());
    let labels = Labels {
        name,
        folder,
        metadata: given,
    };
    Ok(Create {
        labels: labels.checked()?,
        declared: declared.map(shortened),
    })
}
