//! Why a value is not sealed or not opened.

use super::KeyId;

/// Why a value is not sealed or not opened. Says nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealingError {
    /// There is no key, or none yet.
    #[error("no sealing key; set {origin}")]
    NoKey {
        /// The setting that the keys come from.
        origin: &'static str,
    },
    /// The value was sealed with a key that is not there.
    #[error("`{table}.{column}` was sealed with key {key}, which is not in {origin}")]
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
    #[error(
        "`{table}.{column}` cannot be opened: it was changed, or sealed for another row, column or table"
    )]
    Damaged {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
    },
    /// The value is not an envelope of this format.
    #[error("it is not a sealed value")]
    NotSealed,
    /// The value cannot be written down, or what was opened is not of its type.
    #[error("the value has another type than the sealed one")]
    WrongType,
    /// The operating system has no random bytes, or the value is too long for the cipher.
    #[error("the value cannot be encrypted")]
    Encryption,
}
