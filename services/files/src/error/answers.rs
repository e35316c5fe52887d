//! What clients are answered: the status, code and text of each error, and the field at fault.

use std::time::Duration;

use dotmac_platform::{
    db::DbError,
    http::{FieldError, Problem},
    jobs::EnqueueError,
    routing::{ApiError, ProblemType},
};

use super::{FilesError, QuotaOf};
use crate::storage::{self, StorageError};

const DIGEST: ProblemType =
    ProblemType::new(400, "invalid_digest", "the announced hash is not valid");
const FORM: ProblemType = ProblemType::new(
    400,
    "invalid_form",
    "the form must have one field `file`, and at most one of each of `name`, `folder` and `metadata`",
);
const FORBIDDEN: ProblemType =
    ProblemType::new(403, "forbidden", "the caller lacks the permission");
const NOT_FOUND: ProblemType = ProblemType::new(404, "file_not_found", "there is no such file");
const NO_VERSION: ProblemType = ProblemType::new(
    404,
    "version_not_found",
    "the file has no former content of that number",
);
const NO_LINK: ProblemType = ProblemType::new(404, "link_not_found", "there is no such link");
const LINK_GONE: ProblemType =
    ProblemType::new(410, "link_gone", "the link is expired, revoked or used up");
const TOO_MANY_LINKS: ProblemType = ProblemType::new(
    409,
    "too_many_links",
    "the file has reached the limit of links",
);
const NO_UPLOAD: ProblemType = ProblemType::new(404, "upload_not_found", "there is no such upload");
const UPLOAD_EXPIRED: ProblemType =
    ProblemType::new(410, "upload_expired", "the upload has expired");
const UPLOAD: ProblemType = ProblemType::new(
    400,
    "invalid_upload",
    "a header of the upload is missing or not valid",
);
const OFFSET: ProblemType = ProblemType::new(
    409,
    "upload_offset",
    "the upload has another offset; `HEAD` returns it",
);
const TAKEN: ProblemType =
    ProblemType::new(409, "upload_taken", "another request continues the upload");
const TUS_VERSION: ProblemType =
    ProblemType::new(412, "tus_version", "`Tus-Resumable: 1.0.0` is needed");
const TOO_LONG: ProblemType = ProblemType::new(
    413,
    "upload_too_long",
    "the body is longer than the upload announced",
);
const OFFSET_STREAM: ProblemType = ProblemType::new(
    415,
    "unsupported_media_type",
    "the body must be sent as application/offset+octet-stream",
);
const CHECKSUM: ProblemType = ProblemType::new(
    460,
    "checksum_mismatch",
    "the received bytes have another hash than `Upload-Checksum`",
);
const TOO_MANY_BEGUN: ProblemType = ProblemType::new(
    409,
    "too_many_begun_uploads",
    "the user has reached the limit of unfinished uploads",
);
const TOO_MANY_PARTS: ProblemType = ProblemType::new(
    409,
    "too_many_parts",
    "the upload has too many requests; begin again with larger ones",
);
const DIRECT: ProblemType = ProblemType::new(
    409,
    "upload_direct",
    "the parts of the upload go to the store; `POST /files/{id}/complete` ends it",
);
const PARTS_MISSING: ProblemType = ProblemType::new(
    409,
    "parts_missing",
    "parts are missing in the store, or have another size",
);
const NOT_DIRECT: ProblemType = ProblemType::new(
    422,
    "direct_not_configured",
    "clients cannot write to the store; this needs an S3 store",
);
const SLOW: ProblemType = ProblemType::new(
    408,
    "slow_body",
    "the client sent nothing of the body for too long",
);
const STATE: ProblemType =
    ProblemType::new(409, "file_state", "the state of the file does not allow it");
const TOO_LARGE: ProblemType = ProblemType::new(
    413,
    "file_too_large",
    "the file is larger than the limit of this kind of upload",
);
const QUOTA: ProblemType = ProblemType::new(
    413,
    "quota_exceeded",
    "the files would exceed the quota; see `GET /files/usage`",
);
const DIGEST_MISMATCH: ProblemType = ProblemType::new(
    422,
    "digest_mismatch",
    "the received bytes have another hash than announced",
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
    "the file has reached the limit of renditions",
);
const FAILED: ProblemType = ProblemType::new(
    422,
    "rendition_failed",
    "the file cannot be decoded; `errors` has the reason",
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
    "too many jobs of the tenant are waiting",
);
const PENDING: ProblemType = ProblemType::new(
    503,
    "rendition_pending",
    "the rendition is not ready yet; retry",
);
const BUSY: ProblemType =
    ProblemType::new(503, "too_many_uploads", "too many uploads are under way");
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

impl From<StorageError> for Problem {
    fn from(error: StorageError) -> Self {
        let kind = match &error {
            error if error.reason() == storage::FULL => FULL,
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
