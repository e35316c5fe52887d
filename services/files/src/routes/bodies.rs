//! The bodies of requests and answers.

use std::collections::BTreeMap;

use dotmac_platform::{
    db::types::Moment,
    http::ItemProblem,
    routing::{Change, InvalidRequest, not_null},
};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    FilesError, names,
    rules::files::Relabel,
    store::{
        files::{FileRow, Filter, MediaTypes},
        usage::Usage,
    },
};

/// The states that clients ask for.
const STATES: [&str; 7] = [
    "uploading",
    "verifying",
    "scanning",
    "ready",
    "quarantined",
    "rejected",
    "deleted",
];

/// A file.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = File)]
pub(crate) struct FileBody {
    /// Its id.
    pub(crate) id: Uuid,
    /// Its name, in Unicode's form NFC.
    #[schema(example = "report.pdf")]
    name: String,
    /// Its size in bytes.
    #[schema(example = 1024)]
    size: i64,
    /// Its SHA-256, in 64 hexadecimal digits.
    sha256: String,
    /// What it is, by its bytes.
    #[serde(rename = "type")]
    #[schema(example = "application/pdf")]
    media_type: String,
    /// What its sender said that it is.
    type_declared: Option<String>,
    /// `uploading`, `verifying`, `scanning`, `ready`, `quarantined`, `rejected` or `deleted`.
    #[schema(example = "ready")]
    state: String,
    /// The folder that it is in: `/`, or `/a/b`.
    #[schema(example = "/reports")]
    folder: String,
    /// Up to 64 keys with texts.
    metadata: BTreeMap<String, String>,
    /// The user, service account or key that owns it.
    owner: Uuid,
    /// Grows with each change; the number in `ETag`.
    version: i64,
    created_at: Moment,
    updated_at: Moment,
}

impl From<FileRow> for FileBody {
    fn from(row: FileRow) -> Self {
        let state = row.shown_state().to_owned();
        Self {
            id: row.id.uuid(),
            name: row.name,
            size: row.size,
            sha256: row.sha256,
            media_type: row.media_type,
            type_declared: row.details.0.type_declared,
            state,
            folder: row.folder,
            metadata: row.details.0.metadata,
            owner: row.owner_id.uuid(),
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// The name and the folder of an uploaded file.
#[derive(Deserialize, IntoParams)]
pub(crate) struct UploadQuery {
    /// Its name: at most 255 bytes, without control characters, and no path.
    pub(crate) name: String,
    /// The folder that it goes to: `/`, unless it is given.
    pub(crate) folder: Option<String>,
}

/// A form with a file.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only described")]
pub(crate) struct UploadForm {
    /// The file, with its name and type.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    /// Its name, in place of the one that the file has.
    name: Option<String>,
    /// The folder that it goes to.
    folder: Option<String>,
    /// A JSON object of up to 64 keys with texts.
    metadata: Option<String>,
}

/// Which files.
#[derive(Clone, Debug, Deserialize, IntoParams)]
pub(crate) struct Asked {
    /// Only those in this folder; not those in folders below it.
    folder: Option<String>,
    /// Only those of this type, as `application/pdf`, or of a family, as `image/*`.
    #[serde(rename = "type")]
    media_type: Option<String>,
    /// Only those whose name has this text, in upper or lower case.
    q: Option<String>,
    /// Only those of this user, service account or key.
    owner: Option<Uuid>,
    /// Only those in this state. Deleted files are listed only by `deleted`.
    state: Option<String>,
}

impl Asked {
    /// The filter that is asked for.
    ///
    /// # Errors
    ///
    /// 400 `invalid_query`.
    pub(crate) fn filter(&self) -> Result<Filter, FilesError> {
        let wrong = |parameter, problem: &str| InvalidRequest::query(parameter, problem.to_owned());
        let folder = self.folder.as_deref().map(names::folder).transpose();
        let folder = folder.map_err(|problem| wrong("folder", &problem))?;
        let media_types = match self.media_type.as_deref().map(|it| it.split_once('/')) {
            None => None,
            Some(Some((family, "*"))) if is_word(family) => {
                Some(MediaTypes::Family(format!("{family}/")))
            }
            Some(Some((family, kind))) if is_word(family) && is_word(kind) => {
                Some(MediaTypes::One(format!("{family}/{kind}")))
            }
            Some(_) => {
                return Err(
                    wrong("type", "is a media type, as `application/pdf` or `image/*`").into(),
                );
            }
        };
        let q = self.q.as_deref().filter(|it| !it.is_empty());
        if q.is_some_and(|it| it.len() > names::LONGEST_NAME) {
            return Err(wrong("q", "has at most 255 bytes").into());
        }
        if self
            .state
            .as_deref()
            .is_some_and(|it| !STATES.contains(&it))
        {
            return Err(wrong("state", &format!("is one of {}", STATES.join(", "))).into());
        }
        Ok(Filter {
            folder,
            media_types,
            name: q.map(names::containing),
            owner: self.owner.map(dotmac_platform::db::types::Id::from_uuid),
            state: self.state.clone(),
        })
    }
}

/// Letters of a part of a media type, without those that a pattern of the database could mean.
fn is_word(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&^.+-".contains(&byte);
    !text.is_empty() && text.bytes().all(is_letter)
}

/// What is to be changed of a file; the rest stays as it is.
#[derive(Deserialize, Validate, ToSchema)]
pub(crate) struct FilePatch {
    /// Its new name.
    #[serde(default)]
    #[garde(custom(not_null))]
    name: Change<String>,
    /// The folder that it goes to.
    #[serde(default)]
    #[garde(custom(not_null))]
    folder: Change<String>,
    /// Keys to set; a key with `null` goes. `null` in place of the object takes all away.
    #[serde(default)]
    #[garde(skip)]
    #[schema(value_type = Option<Object>)]
    metadata: Change<BTreeMap<String, Option<String>>>,
}

impl From<FilePatch> for Relabel {
    fn from(patch: FilePatch) -> Self {
        Self {
            name: patch.name.apply_to(None),
            folder: patch.folder.apply_to(None),
            clears_metadata: patch.metadata == Change::Clear,
            metadata: patch.metadata.apply_to(None),
        }
    }
}

/// Where a file goes.
#[derive(Deserialize, Validate, ToSchema)]
pub(crate) struct MoveTo {
    /// The folder.
    #[garde(skip)]
    folder: Option<String>,
    /// Its name there; as it is, unless it is given.
    #[garde(skip)]
    name: Option<String>,
}

impl From<MoveTo> for Relabel {
    fn from(MoveTo { folder, name }: MoveTo) -> Self {
        Self {
            name,
            folder,
            ..Self::default()
        }
    }
}

/// What is used of a quota.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct QuotaBody {
    /// Bytes of files, those in the trash among them.
    used: i64,
    /// Bytes that are held for uploads under way.
    reserved: i64,
    /// Bytes that there may be.
    quota: i64,
    /// Files, those in the trash among them.
    files: i64,
}

impl QuotaBody {
    pub(crate) const fn new(usage: Usage, quota: i64) -> Self {
        Self {
            used: usage.used,
            reserved: usage.reserved,
            quota,
            files: usage.files,
        }
    }
}

/// Used bytes, and the quotas.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct UsageBody {
    /// By all of the tenant.
    pub(crate) tenant: QuotaBody,
    /// By the caller.
    pub(crate) user: QuotaBody,
}

/// What is to be done, in this order.
#[derive(Deserialize, Validate, ToSchema)]
pub(crate) struct BatchPost {
    /// Up to 100.
    #[garde(length(min = 1, max = 100))]
    pub(crate) items: Vec<BatchItem>,
}

/// One thing to do.
#[derive(Clone, Deserialize, ToSchema)]
pub(crate) struct BatchItem {
    /// What.
    pub(crate) op: BatchOp,
    /// The file.
    pub(crate) id: Uuid,
    /// The folder that it, or its copy, goes to.
    pub(crate) folder: Option<String>,
    /// The name that it, or its copy, gets.
    pub(crate) name: Option<String>,
}

/// What can be done with many files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BatchOp {
    /// Moves it.
    Move,
    /// Copies it.
    Copy,
    /// Puts it into the trash.
    Delete,
    /// Takes it from the trash.
    Restore,
}

/// What came of each.
#[derive(Serialize, ToSchema)]
pub(crate) struct BatchBody {
    /// In the order of the request.
    pub(crate) items: Vec<BatchResult>,
}

/// What came of one thing.
#[derive(Serialize, ToSchema)]
pub(crate) struct BatchResult {
    /// The file of the request.
    pub(crate) id: Uuid,
    /// The status that a single request for it would have.
    #[schema(example = 200)]
    pub(crate) status: u16,
    /// The file as it is now, or the copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<FileBody>,
    /// Why it was not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<ItemProblem>,
}
