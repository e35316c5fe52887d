//! The classification of a worker's error: a fault of the worker, or of a dependency.

use std::{convert::Infallible, error::Error, fmt};

use dotmac_db::DbError;
use dotmac_supervision::Reason;

type AnyError = Box<dyn Error + Send + Sync>;

/// An error that a run of a worker ends with.
///
/// ```
/// use dotmac_platform::{db::DbError, module::WorkerError, supervision::Reason};
///
/// #[derive(Debug, thiserror::Error)]
/// enum FeedError {
///     #[error("the feed has no title")]
///     NoTitle,
///     #[error("the feed's server does not answer")]
///     NoAnswer(#[source] std::io::Error),
///     #[error(transparent)]
///     Db(#[from] DbError),
/// }
///
/// impl WorkerError for FeedError {
///     fn upstream(&self) -> Option<Reason> {
///         match self {
///             Self::NoTitle => None,
///             Self::NoAnswer(_) => Some(Reason::UNREACHABLE),
///             Self::Db(error) => error.reason(),
///         }
///     }
/// }
/// ```
pub trait WorkerError: Into<Box<dyn Error + Send + Sync>> {
    /// The external reason, if the worker is not at fault: a database or server that is away. Then it is
    /// `unavailable` for this reason, is tried again after the longest backoff, and no restart counts as used up.
    fn upstream(&self) -> Option<Reason>;
}

impl WorkerError for DbError {
    fn upstream(&self) -> Option<Reason> {
        self.reason()
    }
}

impl WorkerError for Infallible {
    fn upstream(&self) -> Option<Reason> {
        None
    }
}

impl WorkerError for std::io::Error {
    fn upstream(&self) -> Option<Reason> {
        None
    }
}

impl WorkerError for AnyError {
    fn upstream(&self) -> Option<Reason> {
        dotmac_causes::find::<DbError>(&**self)?.reason()
    }
}

/// An error with its reason, as it goes to the supervisor.
#[derive(Debug)]
struct Upstream {
    reason: Reason,
    error: AnyError,
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for Upstream {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// The error for the supervisor, with what [`reason`] needs.
pub(super) fn classified(error: impl WorkerError) -> AnyError {
    match error.upstream() {
        Some(reason) => {
            let error = error.into();
            Upstream { reason, error }.into()
        }
        None => error.into(),
    }
}

/// The reason of a [`classified`] error; `None` for a fault of the worker.
pub(super) fn reason(error: &(dyn Error + 'static)) -> Option<Reason> {
    error.downcast_ref().map(|it: &Upstream| it.reason)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// As services write it: `source` goes past the database's error.
    #[derive(Debug, thiserror::Error)]
    enum NotesError {
        #[error("there are too many notes")]
        TooMany,
        #[error(transparent)]
        Db(#[from] DbError),
    }

    impl WorkerError for NotesError {
        fn upstream(&self) -> Option<Reason> {
            match self {
                Self::Db(error) => error.reason(),
                Self::TooMany => None,
            }
        }
    }

    #[test]
    fn an_error_of_the_database_is_no_fault_of_the_worker() {
        let exhausted = || DbError::PoolExhausted {
            waited: Duration::from_secs(1),
            module: Some("notes"),
        };
        let word = |error: AnyError| reason(&*error).map(Reason::as_str);
        let of_service = classified(NotesError::from(exhausted()));
        assert_eq!(of_service.to_string(), exhausted().to_string());
        assert_eq!(word(of_service), Some("pool_exhausted"));
        assert_eq!(word(classified(exhausted())), Some("pool_exhausted"));
        let boxed: AnyError = Box::new(exhausted());
        assert_eq!(word(classified(boxed)), Some("pool_exhausted"));
        let retry_after = Duration::from_secs(1);
        let away = classified(NotesError::from(DbError::Unavailable { retry_after }));
        assert_eq!(word(away), Some("unreachable"));
        assert_eq!(word(classified(NotesError::TooMany)), None);
        let panicked = DbError::Panicked {
            operation: "sweep",
            message: "index out of bounds".to_owned(),
        };
        assert_eq!(word(classified(panicked)), None);
    }
}
