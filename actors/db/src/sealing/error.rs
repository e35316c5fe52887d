//! Why a value is not sealed or not opened.

use super::KeyId;

/// Why a value is not sealed or not opened. Says nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealingError {
    /// There is no key, or none yet.
    #[error("there is no key to seal with; set {origin}")]
    NoKey {
        /// The setting that the keys come from.
        origin: &'static str,
    },
    /// The value was sealed with a key that is not there.
    #[error("`{table}.{column}` was sealed with key {key}, which is not among those of {origin}")]
    MissingKey {
        /// The id of the key.
        key: KeyId,
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The setting that the keys come from.
        origin: &'static str,
    },
    /// The value was changed, or moved here from another row, column or table.
    #[error("`{table}.{column}` does not open: it was changed, or sealed for another place")]
    Damaged {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
    },
    /// What was sealed is no envelope of ours.
    #[error("it is not a sealed value")]
    NotSealed,
    /// The value cannot be written down, or what was opened is not of its type.
    #[error("the value is not of the type that is sealed here")]
    WrongType,
    /// The operating system has no random bytes, or the value is too long for the cipher.
    #[error("the value cannot be encrypted")]
    Encryption,
}
