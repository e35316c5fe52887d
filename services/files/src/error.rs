//! What can go wrong with files, and the answers to clients.

use std::{borrow::Cow, time::Duration};

use dotmac_platform::{
    audit::AuditError,
    db::DbError,
    events::EmitError,
    http::{FieldError, Problem},
    jobs::EnqueueError,
    module::WorkerError,
    routing::{ApiError, InvalidRequest, PreconditionFailed, ProblemType},
    supervision::Reason,
};

use crate::{digest::Sha256, storage::StorageError, store::files::FileId};

const DIGEST: ProblemType = ProblemType::new(
    400,
    "invalid_digest",
    "the hash that the request announces cannot be understood",
);
const FORM: ProblemType = ProblemType::new(
    400,
    "invalid_form",
    "the form must have one field `file`, and at most one of each of `name`, `folder` and `metadata`",
);
const FORBIDDEN: ProblemType =
    ProblemType::new(403, "forbidden", "the permission for this is missing");
const NOT_FOUND: ProblemType = ProblemType::new(404, "file_not_found", "there is no such file");
const NO_VERSION: ProblemType = ProblemType::new(
    404,
    "version_not_found",
    "the file has no former content of that number",
);
const NO_LINK: ProblemType = ProblemType::new(404, "link_not_found", "there is no such link");
const LINK_GONE: ProblemType = ProblemType::new(
    410,
    "link_gone",
    "the link is over, was revoked, or was used as often as it may be",
);
const TOO_MANY_LINKS: ProblemType = ProblemType::new(
    409,
    "too_many_links",
    "the file has as many links as it may have",
);
const NO_UPLOAD: ProblemType = ProblemType::new(404, "upload_not_found", "there is no such upload");
const UPLOAD_EXPIRED: ProblemType = ProblemType::new(
    410,
    "upload_expired",
    "the upload was not gone on with in time",
);
const UPLOAD: ProblemType = ProblemType::new(
    400,
    "invalid_upload",
    "a header of the upload is missing or cannot be understood",
);
const OFFSET: ProblemType = ProblemType::new(
    409,
    "upload_offset",
    "the upload has come to another place; `HEAD` says to which",
);
const TAKEN: ProblemType = ProblemType::new(
    409,
    "upload_taken",
    "another request goes on with the upload",
);
const TUS_VERSION: ProblemType =
    ProblemType::new(412, "tus_version", "`Tus-Resumable: 1.0.0` is needed");
const TOO_LONG: ProblemType = ProblemType::new(
    413,
    "upload_too_long",
    "more has come than the upload announced",
);
const OFFSET_STREAM: ProblemType = ProblemType::new(
    415,
    "unsupported_media_type",
    "the body must be sent as application/offset+octet-stream",
);
const CHECKSUM: ProblemType = ProblemType::new(
    460,
    "checksum_mismatch",
    "what has arrived has another hash than `Upload-Checksum`",
);
const TOO_MANY_BEGUN: ProblemType = ProblemType::new(
    409,
    "too_many_begun_uploads",
    "as many uploads are begun and not ended as one user may have",
);
const TOO_MANY_PARTS: ProblemType = ProblemType::new(
    409,
    "too_many_parts",
    "the upload came in more requests than it may have; begin again with larger ones",
);
const DIRECT: ProblemType = ProblemType::new(
    409,
    "upload_direct",
    "the parts of the upload go to the store; `POST /files/{id}/complete` ends it",
);
const PARTS_MISSING: ProblemType = ProblemType::new(
    409,
    "parts_missing",
    "parts are not in the store, or not in their size",
);
const NOT_DIRECT: ProblemType = ProblemType::new(
    422,
    "direct_not_configured",
    "the store takes nothing from clients; only one that speaks S3 does",
);
const SLOW: ProblemType =
    ProblemType::new(408, "slow_body", "nothing of the body came for too long");
const STATE: ProblemType =
    ProblemType::new(409, "file_state", "the state of the file does not allow it");
const TOO_LARGE: ProblemType = ProblemType::new(
    413,
    "file_too_large",
    "the file has more bytes than one that is uploaded so may have",
);
const QUOTA: ProblemType = ProblemType::new(
    413,
    "quota_exceeded",
    "the files would exceed the quota; `GET /files/usage` says what there is",
);
const DIGEST_MISMATCH: ProblemType = ProblemType::new(
    422,
    "digest_mismatch",
    "what has arrived is not what the request announces",
);
const TYPE_MISMATCH: ProblemType = ProblemType::new(
    422,
    "type_mismatch",
    "the file is not of the type that the request announces",
);
const UNDECODABLE: ProblemType = ProblemType::new(
    422,
    "type_not_supported",
    "a file of this type cannot be decoded",
);
const RENDITIONS: ProblemType = ProblemType::new(
    422,
    "too_many_renditions",
    "the file has as many renditions as a file may have",
);
const FAILED: ProblemType = ProblemType::new(
    422,
    "rendition_failed",
    "it cannot be made of the file; `errors` says why",
);
const MALWARE: ProblemType = ProblemType::new(
    422,
    "malware_found",
    "the file has a virus: it is kept in the state `quarantined`, and cannot be read",
);
const NOT_SCANNED: ProblemType = ProblemType::new(
    422,
    "scan_refused",
    "the file cannot be scanned for viruses: it is kept in the state `rejected`, and cannot be read",
);
const WAITING: ProblemType = ProblemType::new(
    429,
    "too_many_jobs",
    "as many jobs of the tenant wait as may wait",
);
const PENDING: ProblemType =
    ProblemType::new(503, "rendition_pending", "it is being made; ask again");
const BUSY: ProblemType = ProblemType::new(
    503,
    "too_many_uploads",
    "as many uploads are under way as there may be",
);
const STORAGE: ProblemType = ProblemType::new(
    503,
    "storage_unavailable",
    "the store of files is not available",
);
const FULL: ProblemType =
    ProblemType::new(503, "storage_full", "the store of files has no space left");
const LOST: ProblemType = ProblemType::new(
    503,
    "upload_lost",
    "the upload was interrupted on the server; send it again",
);

/// When another try may find the store well.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Parts that an answer names.
const MOST_NAMED: usize = 20;

/// Whose quota is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QuotaOf {
    Tenant,
    User,
}

/// Why something cannot be done with files.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilesError {
    /// The header with the hash cannot be understood; its name, and what it should be.
    #[error("`{0}` {1}")]
    Digest(&'static str, &'static str),
    /// The form is not of the fields that it should have; which one, and what is wrong.
    #[error("`{0}` {1}")]
    Form(Cow<'static, str>, &'static str),
    /// A part of a batch needs a permission that the caller does not have.
    #[error("the permission `{0}` is missing")]
    Forbidden(&'static str),
    /// No file of that id belongs to the tenant.
    #[error("there is no such file")]
    NotFound,
    /// The file has no former content of that number.
    #[error("the file has no such content")]
    NoVersion,
    /// No link of that id belongs to the file, or a token opens none.
    #[error("there is no such link")]
    NoLink,
    /// The link opens nothing any more.
    #[error("the link is over")]
    LinkGone,
    /// The file has as many links as it may have.
    #[error("the file has too many links")]
    TooManyLinks,
    /// The operating system has no random bytes.
    #[error("the operating system has no random bytes")]
    NoRandom,
    /// No upload of that id belongs to the caller.
    #[error("there is no such upload")]
    NoUpload,
    /// The upload was not gone on with in time.
    #[error("the upload has expired")]
    UploadExpired,
    /// A header of tus; its name, and what it should be.
    #[error("`{0}` {1}")]
    UploadHeader(&'static str, &'static str),
    /// The upload has come to another place.
    #[error("the upload has come to {0}")]
    Offset(i64),
    /// Another request goes on with the upload.
    #[error("another request goes on with the upload")]
    Taken,
    /// The parts of the upload go to the store.
    #[error("the parts of the upload go to the store")]
    Direct,
    /// Parts, by their numbers, are not in the store.
    #[error("parts are not in the store")]
    PartsMissing(Vec<usize>),
    /// The store has no addresses for clients.
    #[error("the store has no addresses for clients")]
    NotDirect,
    /// The owner has begun too many uploads.
    #[error("too many uploads are begun")]
    TooManyBegun,
    /// The upload has too many parts.
    #[error("the upload has too many parts")]
    TooManyParts,
    /// The client speaks another version of tus.
    #[error("the client speaks another version of tus")]
    TusVersion,
    /// More has come than was announced.
    #[error("more has come than was announced")]
    TooLong,
    /// The body is not sent as tus has it.
    #[error("the body is of another media type")]
    NoOffsetStream,
    /// What has come has another hash.
    #[error("what has come has another hash")]
    Checksum,
    /// Nothing of the body came for too long.
    #[error("nothing of the body came for too long")]
    Slow,
    /// The state of the file.
    #[error("the file is {0}")]
    State(String),
    /// The most bytes that a file of one request may have.
    #[error("the file has more than {0} bytes")]
    TooLarge(u64),
    /// The quota is used up.
    #[error("the quota is used up")]
    Quota(QuotaOf),
    /// The header that says so, and what has arrived.
    #[error("the file has another hash than `{header}` announces")]
    DigestMismatch { header: &'static str, found: Sha256 },
    /// What the file is.
    #[error("the file is {0}")]
    TypeMismatch(String),
    /// Nothing of the kind can be made of a file of this type.
    #[error("the file is {0}")]
    Undecodable(String),
    /// The most renditions that a file may have.
    #[error("a file has at most {0} renditions")]
    Renditions(u32),
    /// What was asked for cannot be made of the file; why.
    #[error("it cannot be made of the file: {0}")]
    Failed(String),
    /// What was asked for is not made yet.
    #[error("it is being made")]
    Pending,
    /// The file has a virus.
    #[error("the file `{0}` has a virus")]
    Malware(FileId),
    /// The file cannot be scanned to its end.
    #[error("the file `{0}` cannot be scanned")]
    NotScanned(FileId),
    /// Too many uploads are under way.
    #[error("too many uploads are under way")]
    Busy,
    /// The upload was taken for one that has ended, or its bytes are not there.
    #[error("the upload was interrupted")]
    Lost,
    /// Values of the request are not acceptable.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// The file was changed since the client saw it.
    #[error(transparent)]
    Changed(#[from] PreconditionFailed),
    /// The store did not do it.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The database did not do it.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The job of what is to be done was not taken.
    #[error(transparent)]
    Enqueue(EnqueueError),
    /// The event of what happened was not taken.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// The entry of what was done was not taken.
    #[error(transparent)]
    Record(#[from] AuditError),
    /// Anything that the platform answers as it is.
    #[error("{0}")]
    Problem(Problem),
}

impl FilesError {
    /// A value that is not acceptable: 422.
    pub(crate) fn field(field: &'static str, problem: impl Into<Cow<'static, str>>) -> Self {
        InvalidRequest::field(field, "invalid", problem).into()
    }

    /// Whether a commit may have taken place all the same.
    pub(crate) const fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::Db(DbError::OutcomeUnknown(_)))
    }
}

impl From<Problem> for FilesError {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<EnqueueError> for FilesError {
    fn from(error: EnqueueError) -> Self {
        match error {
            EnqueueError::Database(error) => Self::Db(error),
            error => Self::Enqueue(error),
        }
    }
}

impl WorkerError for FilesError {
    fn upstream(&self) -> Option<Reason> {
        match self {
            Self::Db(error) => error.reason(),
            Self::Storage(error) => Some(error.reason()),
            _ => None,
        }
    }
}

impl From<StorageError> for Problem {
    fn from(error: StorageError) -> Self {
        let kind = match &error {
            error if error.reason() == crate::storage::FULL => FULL,
            _ => STORAGE,
        };
        kind.problem().retry_after(RETRY_AFTER).caused_by(error)
    }
}

impl ApiError for FilesError {
    const PROBLEMS: &'static [ProblemType] = &[
        DIGEST,
        FORM,
        NOT_FOUND,
        NO_VERSION,
        NO_LINK,
        NO_UPLOAD,
        UPLOAD_EXPIRED,
        UPLOAD,
        OFFSET,
        TAKEN,
        DIRECT,
        PARTS_MISSING,
        NOT_DIRECT,
        TOO_MANY_BEGUN,
        TOO_MANY_PARTS,
        TUS_VERSION,
        TOO_LONG,
        OFFSET_STREAM,
        CHECKSUM,
        LINK_GONE,
        TOO_MANY_LINKS,
        SLOW,
        STATE,
        TOO_LARGE,
        QUOTA,
        DIGEST_MISMATCH,
        TYPE_MISMATCH,
        UNDECODABLE,
        RENDITIONS,
        FAILED,
        MALWARE,
        NOT_SCANNED,
        WAITING,
        PENDING,
        BUSY,
        STORAGE,
        FULL,
        LOST,
    ];

    fn into_problem(self) -> Problem {
        let text = self.to_string();
        match self {
            Self::Digest(header, problem) => DIGEST.problem().field_error(header, problem),
            Self::Form(field, problem) => FORM.problem().field_error(field, problem),
            Self::Forbidden(_) => FORBIDDEN.problem().detail(text),
            Self::NotFound => NOT_FOUND.problem(),
            Self::NoVersion => NO_VERSION.problem(),
            Self::NoLink => NO_LINK.problem(),
            Self::NoUpload => NO_UPLOAD.problem(),
            Self::UploadExpired => UPLOAD_EXPIRED.problem(),
            Self::UploadHeader(header, problem) => UPLOAD.problem().field_error(header, problem),
            Self::Offset(_) => OFFSET.problem().field_error("upload-offset", text),
            Self::Taken => TAKEN.problem(),
            Self::Direct => DIRECT.problem(),
            Self::PartsMissing(numbers) => {
                let numbers = numbers.into_iter().take(MOST_NAMED);
                numbers.fold(PARTS_MISSING.problem(), |problem, number| {
                    let field = format!("parts[{}]", number - 1);
                    problem.field_error(field, "is not in the store, or has another size")
                })
            }
            Self::NotDirect => NOT_DIRECT.problem(),
            Self::TooManyBegun => TOO_MANY_BEGUN.problem(),
            Self::TooManyParts => TOO_MANY_PARTS.problem(),
            Self::TusVersion => TUS_VERSION.problem().text_header("tus-version", "1.0.0"),
            Self::TooLong => TOO_LONG.problem(),
            Self::NoOffsetStream => OFFSET_STREAM.problem(),
            Self::Checksum => CHECKSUM.problem(),
            Self::LinkGone => LINK_GONE.problem(),
            Self::TooManyLinks => TOO_MANY_LINKS.problem(),
            error @ Self::NoRandom => Problem::internal(error),
            Self::Slow => SLOW.problem(),
            Self::State(_) => STATE.problem().field_error("state", text),
            Self::TooLarge(_) => TOO_LARGE.problem().field_error("file", text),
            Self::Quota(of) => {
                let field = match of {
                    QuotaOf::Tenant => "tenant",
                    QuotaOf::User => "user",
                };
                QUOTA.problem().field_error(field, "has used its quota")
            }
            Self::DigestMismatch { header, found } => {
                let found = format!("what has arrived has the SHA-256 {}", found.hex());
                DIGEST_MISMATCH.problem().field_error(header, found)
            }
            Self::TypeMismatch(_) => TYPE_MISMATCH.problem().field_error("type", text),
            Self::Undecodable(_) => UNDECODABLE.problem().field_error("type", text),
            Self::Renditions(_) => RENDITIONS.problem().field_error("rendition", text),
            Self::Failed(fault) => {
                let message = "cannot be made of the file";
                let error = FieldError::new("rendition", fault, message);
                FAILED.problem().field(error)
            }
            Self::Pending => PENDING.problem().retry_after(Duration::from_secs(1)),
            Self::Malware(_) => MALWARE.problem().field_error("file", text),
            Self::NotScanned(_) => NOT_SCANNED.problem().field_error("file", text),
            Self::Enqueue(EnqueueError::TooManyWaiting { .. }) => {
                WAITING.problem().detail(text).retry_after(RETRY_AFTER)
            }
            Self::Busy => BUSY.problem().retry_after(Duration::from_secs(1)),
            Self::Lost => LOST.problem().retry_after(Duration::from_secs(1)),
            Self::Invalid(error) => error.into(),
            Self::Changed(error) => error.into(),
            Self::Storage(error) => error.into(),
            Self::Db(error) => error.into(),
            Self::Enqueue(error) => DbError::from(error).into(),
            Self::Emit(error) => DbError::from(error).into(),
            Self::Record(error) => DbError::from(error).into(),
            Self::Problem(problem) => problem,
        }
    }
}
