//! What is no fault of the work.

use dotmac_db::DbError;
use dotmac_supervision::Reason;

/// Whether the database is away, which is no fault of the work.
pub(crate) fn is_away(error: &DbError) -> bool {
    matches!(
        error,
        DbError::Unavailable { .. }
            | DbError::PoolExhausted { .. }
            | DbError::Connect(_)
            | DbError::ConnectionLost(_)
            | DbError::OutcomeUnknown(_)
            | DbError::FileChanged(_)
            | DbError::ReadOnly(_)
            | DbError::DiskFull(_)
    )
}

/// Whether another try may succeed.
pub(crate) fn is_passing(error: &DbError) -> bool {
    is_away(error) || error.retry_after().is_some()
}

/// Why a worker waits, if the error is none of its work: the database is away, or another transaction was in the way.
pub(crate) fn reason(error: &DbError) -> Option<Reason> {
    is_passing(error).then(|| error.reason().unwrap_or(Reason::UNREACHABLE))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use diesel::result::Error::NotFound;
    use dotmac_db::{DISK_FULL, LOCKED, READ_ONLY, SLOW};

    use super::*;

    #[test]
    fn a_worker_waits_for_the_database_alone_and_says_why() {
        let unavailable = DbError::Unavailable {
            retry_after: Duration::from_secs(1),
        };
        let unknown = DbError::OutcomeUnknown(NotFound);
        assert_eq!(reason(&DbError::Conflict(NotFound)), Some(LOCKED));
        assert_eq!(reason(&DbError::TimedOut(NotFound)), Some(SLOW));
        assert_eq!(reason(&DbError::ReadOnly(NotFound)), Some(READ_ONLY));
        assert_eq!(reason(&DbError::DiskFull(NotFound)), Some(DISK_FULL));
        assert_eq!(reason(&unavailable), Some(Reason::UNREACHABLE));
        assert_eq!(reason(&unknown), Some(Reason::UNREACHABLE));
        assert_eq!(reason(&DbError::Query(NotFound)), None);
    }
}
