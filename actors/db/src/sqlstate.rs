//! The error code of a database, classified by remedy.
//!
//! PostgreSQL sends one with each error. diesel does not hand it on, so it is read off the wire
//! ([`wire`](super::connect::wire)). SQLite has codes of its own, which diesel does not hand on either; its errors are
//! given the nearest SQLSTATE by their texts, which are never translated.

use std::fmt;

use diesel::result::{DatabaseErrorInformation, DatabaseErrorKind, Error as QueryError};

/// Five characters, of which the first two are the class.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState([u8; 5]);

impl SqlState {
    /// The wire broke; no server sent this one.
    pub const CONNECTION_FAILURE: Self = Self(*b"08006");
    /// A standby, or a transaction that was declared to write nothing.
    pub const READ_ONLY: Self = Self(*b"25006");
    /// A transaction that did nothing for too long; the server ended its connection.
    pub const IDLE_IN_TRANSACTION: Self = Self(*b"25P03");
    /// Concurrent transactions that could not have run one after the other.
    pub const SERIALIZATION_FAILURE: Self = Self(*b"40001");
    /// Transactions that waited for each other.
    pub const DEADLOCK: Self = Self(*b"40P01");
    /// Something that this user may not do; a user that was removed may do nothing.
    pub const NOT_PERMITTED: Self = Self(*b"42501");
    /// No space is left on the database's disk.
    pub const DISK_FULL: Self = Self(*b"53100");
    /// The server has as many connections as it takes.
    pub const TOO_MANY_CONNECTIONS: Self = Self(*b"53300");
    /// A lock that was not given in time.
    pub const LOCK_NOT_AVAILABLE: Self = Self(*b"55P03");
    /// A statement that was ended, by its time-out or by an operator.
    pub const QUERY_CANCELED: Self = Self(*b"57014");
    /// The server is starting, stopping or recovering.
    pub const CANNOT_CONNECT_NOW: Self = Self(*b"57P03");

    /// A page of a table or an index is not what it should be.
    pub const DATA_CORRUPTED: Self = Self(*b"XX001");
    /// An index does not agree with its table.
    pub const INDEX_CORRUPTED: Self = Self(*b"XX002");

    /// The code that `bytes` are, if they are one.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let code: [u8; 5] = bytes.try_into().ok()?;
        let is_code = |byte: &u8| byte.is_ascii_digit() || byte.is_ascii_uppercase();
        code.iter().all(is_code).then_some(Self(code))
    }

    /// As one number, never 0.
    pub(super) fn pack(self) -> u64 {
        self.0
            .iter()
            .fold(0, |packed, byte| packed << 8 | u64::from(*byte))
    }

    pub(super) fn unpack(packed: u64) -> Option<Self> {
        Self::parse(packed.to_be_bytes().get(3..)?)
    }

    /// The code itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The first two characters: what kind of error it is.
    #[must_use]
    pub fn class(&self) -> &str {
        self.as_str().get(..2).unwrap_or_default()
    }

    /// Whether the same transaction may well succeed if it is run again.
    #[must_use]
    pub fn is_conflict(self) -> bool {
        matches!(self, Self::SERIALIZATION_FAILURE | Self::DEADLOCK)
    }

    /// Whether a value that was sent is at fault: too long, out of range, or with a character that no text may have.
    #[must_use]
    pub fn is_data_exception(self) -> bool {
        self.class() == "22"
    }

    /// Whether the server ended the connection with it, or there was none any more.
    #[must_use]
    pub fn is_disconnection(self) -> bool {
        self.class() == "08" || self.0.starts_with(b"57P") || self == Self::IDLE_IN_TRANSACTION
    }

    /// The nearest code for what SQLite, or the client on its behalf, said.
    pub(super) fn of_sqlite(error: &QueryError) -> Option<Self> {
        let QueryError::DatabaseError(kind, information) = error else {
            return None;
        };
        Some(Self(match kind {
            DatabaseErrorKind::UniqueViolation => *b"23505",
            DatabaseErrorKind::ForeignKeyViolation => *b"23503",
            DatabaseErrorKind::NotNullViolation => *b"23502",
            DatabaseErrorKind::CheckViolation => *b"23514",
            _ => of_text(&**information),
        }))
    }
}

fn of_text(information: &dyn DatabaseErrorInformation) -> [u8; 5] {
    let text = information.message();
    let codes: [(&str, &[u8; 5]); 13] = [
        ("is locked", b"55P03"),
        ("is full", b"53100"),
        ("readonly database", b"25006"),
        ("disk I/O error", b"58030"),
        ("malformed", b"XX001"),
        ("not a database", b"XX001"),
        ("no such table", b"42P01"),
        ("no such column", b"42703"),
        ("syntax error", b"42601"),
        ("integer overflow", b"22003"),
        ("string or blob too big", b"22001"),
        ("datatype mismatch", b"22000"),
        ("cannot store", b"22000"),
    ];
    let known = codes.iter().find(|(words, _)| text.contains(words));
    // "General error" is what the standard has for the rest.
    known.map_or(*b"HY000", |(_, code)| **code)
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_survives_being_packed_and_nothing_else_is_one() {
        for code in [SqlState::DEADLOCK, SqlState::READ_ONLY] {
            assert_eq!(SqlState::unpack(code.pack()), Some(code));
        }
        assert_eq!(SqlState::unpack(0), None);
        assert_eq!(SqlState::parse(b"4000"), None);
        assert_eq!(SqlState::parse(b"4000\""), None);
    }

    #[test]
    fn errors_of_a_connection_are_distinguished_from_those_of_a_statement() {
        assert!(SqlState(*b"57P01").is_disconnection());
        assert!(SqlState::CONNECTION_FAILURE.is_disconnection());
        assert!(!SqlState::QUERY_CANCELED.is_disconnection());
    }
}
