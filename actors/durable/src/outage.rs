//! What is no fault of the work.

use dotmac_db::DbError;

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
