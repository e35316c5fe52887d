//! Errors of notes, and the answers to clients.

use dotmac_platform::{
    audit::AuditError,
    db::DbError,
    events::EmitError,
    http::Problem,
    module::WorkerError,
    routing::{ApiError, PreconditionFailed, ProblemType},
    supervision::Reason,
};

const NOT_FOUND: ProblemType = ProblemType::new(404, "note_not_found", "there is no such note");
const TOO_LONG: ProblemType =
    ProblemType::new(422, "note_too_long", "the text is longer than notes may be");
const TOO_MANY: ProblemType = ProblemType::new(
    409,
    "too_many_notes",
    "there are as many notes as there may be",
);

/// Why something cannot be done with notes.
#[derive(Debug, thiserror::Error)]
pub enum NotesError {
    /// No note of that id belongs to the tenant.
    #[error("there is no such note")]
    NotFound,
    /// The text is too long.
    #[error("the text has {length} characters; {most} are allowed")]
    TooLong {
        /// What it has.
        length: usize,
        /// What it may have.
        most: usize,
    },
    /// The tenant has as many as it may have.
    #[error("the tenant has {0} notes, which is all it may have")]
    TooMany(u32),
    /// The note was changed since the client saw it.
    #[error(transparent)]
    Changed(#[from] PreconditionFailed),
    /// The database did not do it.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The event of what happened was not taken.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// The entry of what was done was not taken.
    #[error(transparent)]
    Record(#[from] AuditError),
}

impl WorkerError for NotesError {
    fn upstream(&self) -> Option<Reason> {
        match self {
            Self::Db(error) => error.reason(),
            _ => None,
        }
    }
}

impl ApiError for NotesError {
    const PROBLEMS: &'static [ProblemType] = &[NOT_FOUND, TOO_LONG, TOO_MANY];

    fn into_problem(self) -> Problem {
        match self {
            Self::NotFound => NOT_FOUND.problem(),
            Self::TooLong { .. } => TOO_LONG.problem().field_error("text", self.to_string()),
            Self::TooMany(_) => TOO_MANY.problem(),
            Self::Changed(error) => error.into(),
            Self::Db(error) => error.into(),
            Self::Emit(error) => DbError::from(error).into(),
            Self::Record(error) => DbError::from(error).into(),
        }
    }
}
