//! Errors of files. The answers to clients are in `answers`.

mod answers;

use std::borrow::Cow;

use dotmac_platform::{
    audit::AuditError,
    db::DbError,
    events::EmitError,
    http::Problem,
    jobs::EnqueueError,
    module::WorkerError,
    routing::{InvalidRequest, PreconditionFailed},
    supervision::Reason,
};

use crate::{digest::Sha256, storage::StorageError, store::files::FileId};

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
    /// The upload was not continued in time.
    #[error("the upload has expired")]
    UploadExpired,
    /// A header of tus; its name, and what it should be.
    #[error("`{0}` {1}")]
    UploadHeader(&'static str, &'static str),
    /// The upload has come to another place.
    #[error("the upload has come to {0}")]
    Offset(i64),
    /// Another request continues the upload.
    #[error("another request continues the upload")]
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
