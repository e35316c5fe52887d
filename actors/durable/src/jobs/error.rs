//! What a job fails with.

use std::{borrow::Cow, error::Error, time::Duration};

use diesel::result::Error as QueryError;
use dotmac_db::DbError;

use crate::outage::is_away;

/// The longest code that is kept of an error, in bytes.
const MAX_CODE: usize = 64;
/// The longest message.
pub(super) const MAX_MESSAGE: usize = 2048;
/// How soon a job is tried again that met no database.
const AWAY: Duration = Duration::from_secs(5);
/// The longest wait that an upstream may ask for.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Why an attempt did not succeed, and what follows. Every error of a handler becomes one by `?`: it is tried again as the
/// rules of its kind say.
#[derive(Clone, Debug)]
pub struct JobError {
    pub(super) code: Cow<'static, str>,
    pub(super) message: String,
    pub(super) then: Then,
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Another after the wait that the rules say.
    Again,
    /// Another after this time.
    After(Duration),
    /// Another after this time; this one does not count.
    Uncounted(Duration),
    /// It has not begun: it is scheduled for after this time, and nothing is kept of the attempt.
    NotYet(Duration),
    /// None.
    Fail,
    /// None: it was cancelled.
    Cancel,
}

impl JobError {
    fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>, then: Then) -> Self {
        Self {
            code: cut(code.into().into_owned(), MAX_CODE).into(),
            message: cut(message.into(), MAX_MESSAGE),
            then,
        }
    }

    /// A failure after which the job is tried again. `code` is a word such as `upstream_unavailable`.
    #[must_use]
    pub fn again(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, message, Then::Again)
    }

    /// The same, not before `wait` is over, 24 h at the most: what an upstream asked for by `Retry-After`.
    #[must_use]
    pub fn again_after(wait: Duration, code: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, message, Then::After(wait.min(LONGEST)))
    }

    /// No failure: what the job needs is in use, and it is scheduled for when `wait` is over, 24 h at the most. The attempt
    /// counts as none and is not kept; `code` says in the log what was waited for.
    #[must_use]
    pub fn not_yet(wait: Duration, code: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, message, Then::NotYet(wait.min(LONGEST)))
    }

    /// A failure that another attempt would not mend: the job is `failed`.
    #[must_use]
    pub fn fail(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, message, Then::Fail)
    }

    /// The handler stopped because [the job was cancelled](super::Run::is_cancelled).
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new("cancelled", "the job was cancelled", Then::Cancel)
    }

    pub(super) fn of_system(code: &'static str, message: impl Into<String>) -> Self {
        Self::again(code, message)
    }
}

/// At most `most` bytes of `text`, and no NUL, which PostgreSQL takes nowhere.
pub(crate) fn cut(mut text: String, most: usize) -> String {
    if text.contains('\0') {
        text = text.replace('\0', "\u{fffd}");
    }
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
    }
    text
}

impl<E: Error + Send + Sync + 'static> From<E> for JobError {
    /// Tried again. What the database did not do because it was away, and a lost lease, count as no attempt.
    fn from(error: E) -> Self {
        let message = dotmac_causes::chain(&error);
        let is_away = |it: &(dyn Error + 'static)| it.downcast_ref().is_some_and(is_away);
        if LeaseLost::is_cause_of(&error) {
            return Self::new("lease_lost", message, Then::Uncounted(Duration::ZERO));
        }
        if dotmac_causes::causes(&error).any(is_away) {
            return Self::new("database_away", message, Then::Uncounted(AWAY));
        }
        Self::new("error", message, Then::Again)
    }
}

/// The job is not this worker's any more: another has it, or it is over. The transaction must be rolled back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the job was given to another worker, since this one was late")]
pub struct LeaseLost;

impl LeaseLost {
    /// Whether it is what `error` comes from.
    #[must_use]
    pub fn is_cause_of(error: &(dyn Error + 'static)) -> bool {
        dotmac_causes::causes(error).any(|cause| match cause.downcast_ref() {
            // diesel leaves what it wraps out of its sources.
            Some(QueryError::SerializationError(inner)) => inner.is::<Self>(),
            _ => cause.is::<Self>(),
        })
    }
}

impl From<LeaseLost> for DbError {
    fn from(error: LeaseLost) -> Self {
        Self::InvalidData(QueryError::SerializationError(Box::new(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_tried_again_and_outages_do_not_count() {
        let error = JobError::from(std::io::Error::other("no"));
        assert_eq!((&*error.code, error.then), ("error", Then::Again));
        let retry_after = Duration::ZERO;
        let error = JobError::from(DbError::Unavailable { retry_after });
        assert_eq!(error.then, Then::Uncounted(AWAY));
        let error = JobError::from(DbError::from(LeaseLost));
        assert_eq!(error.code, "lease_lost");
    }

    #[test]
    fn what_is_kept_of_an_error_is_bounded() {
        let error = JobError::fail("x", format!("a\0{}", "ä".repeat(MAX_MESSAGE)));
        assert!(error.message.len() <= MAX_MESSAGE && error.message.starts_with("a\u{fffd}ä"));
        let wait = Duration::from_secs(1_000_000);
        assert_eq!(
            JobError::again_after(wait, "x", "").then,
            Then::After(LONGEST)
        );
    }
}
