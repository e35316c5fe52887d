//! What an event is, and what is refused as one.

use std::borrow::Cow;

use diesel::result::Error as QueryError;
use dotmac_db::{DbError, types::Id};
use serde::Serialize;
use serde_json::Value;

/// The most that the data of one event may have, in bytes of JSON.
pub const MAX_DATA: usize = 64 * 1024;
/// The most events of one transaction.
pub const MAX_EVENTS: usize = 100;
/// The longest subject and partition key, in bytes.
pub const MAX_SUBJECT: usize = 512;
/// The longest name of a type.
const MAX_TYPE: usize = 128;

/// The id of an event: a UUID of version 7.
pub type EventId = Id<super::StoredEvent>;

/// What the types of tenants begin with: `custom.order.paid.v1`. No module emits such types.
pub const CUSTOM: &str = "custom.";

/// An event of a type that a tenant has made up, beyond those of the program's modules.
#[derive(Clone, Debug)]
pub struct CustomEvent {
    /// Its type: of the form of every other, and beginning with [`CUSTOM`].
    pub kind: String,
    /// What it happened to; also its partition key.
    pub subject: String,
    /// Its data.
    pub data: Value,
}

/// Something that happened, in the past tense. Its fields, as JSON, are the data of the event.
pub trait Event: Serialize {
    /// Its type: `area.thing.v1`, lower case, at least three parts, the last one the version. A name that is none does
    /// not compile where the event is emitted, nor one that begins with [`CUSTOM`]. Never changes: another shape is
    /// another version.
    const TYPE: &'static str;

    /// What it happened to, at most 512 bytes without control characters: `notes/01a2…`.
    fn subject(&self) -> String;

    /// What must be handled in order: a subscriber that fails at an event holds back later ones with the same key of
    /// the same tenant, and no others. The subject unless said otherwise.
    fn partition_key(&self) -> String {
        self.subject()
    }
}

/// Why an event was not taken. The transaction is then rolled back, regardless of its work's result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmitError {
    /// The data cannot be written as JSON.
    #[error("the data of an event `{kind}` cannot be written as JSON: {problem}")]
    Json {
        /// The event's type.
        kind: Cow<'static, str>,
        /// What serde said.
        problem: String,
    },
    /// There is too much data.
    #[error(
        "the data of an event `{kind}` has {bytes} bytes; {MAX_DATA} are allowed, so refer to large data instead"
    )]
    TooLarge {
        /// The event's type.
        kind: Cow<'static, str>,
        /// What it has.
        bytes: usize,
    },
    /// The transaction has as many as it may have.
    #[error("a transaction emits at most {MAX_EVENTS} events; the event `{kind}` exceeds that")]
    TooMany {
        /// The event's type.
        kind: Cow<'static, str>,
    },
    /// The type is none of a tenant's.
    #[error("the type of an event `{kind}` must be of the form `{CUSTOM}thing.v1`")]
    NotCustom {
        /// What was given as the type.
        kind: Cow<'static, str>,
    },
    /// It is for another tenant than the transaction's.
    #[error("an event `{kind}` is emitted for another tenant than the transaction's")]
    OtherTenant {
        /// The event's type.
        kind: Cow<'static, str>,
    },
    /// The manifest of the module whose work emits it does not list the type.
    #[error(
        "module `{module}` emits the event `{kind}`, which its manifest does not list; add `.emits::<…>()` to the \
        manifest"
    )]
    Undeclared {
        /// The event's type.
        kind: Cow<'static, str>,
        /// Whose work emits it.
        module: &'static str,
    },
    /// The subject or the partition key is none.
    #[error(
        "{field} of an event `{kind}` must have 1 to {MAX_SUBJECT} bytes and no control characters"
    )]
    Subject {
        /// The event's type.
        kind: Cow<'static, str>,
        /// Which of both.
        field: &'static str,
    },
}

impl From<EmitError> for DbError {
    /// So that rules which return [`DbError`] can pass it on: a value that the log cannot take, or a mistake of the module.
    fn from(error: EmitError) -> Self {
        let is_mistake = matches!(
            error,
            EmitError::Undeclared { .. } | EmitError::Json { .. } | EmitError::OtherTenant { .. }
        );
        let source = QueryError::SerializationError(Box::new(error));
        if is_mistake {
            Self::Query(source)
        } else {
            Self::InvalidData(source)
        }
    }
}

/// Whether `name` can be the type of a tenant's own events: `custom.thing.v1`.
#[must_use]
pub const fn is_custom_type(name: &str) -> bool {
    let (bytes, prefix) = (name.as_bytes(), CUSTOM.as_bytes());
    let mut at = 0;
    while at < prefix.len() {
        if at >= bytes.len() || bytes[at] != prefix[at] {
            return false;
        }
        at += 1;
    }
    is_event_type(name)
}

/// Whether `name` can be the type of events: `area.thing.v1`. Two to six parts of lower case letters, digits and `_`, a
/// letter first, and a last one that is `v` and a number.
#[must_use]
pub const fn is_event_type(name: &str) -> bool {
    let bytes = name.as_bytes();
    if bytes.len() > MAX_TYPE {
        return false;
    }
    let (mut parts, mut begin, mut at) = (0, 0, 0);
    while at <= bytes.len() {
        if at == bytes.len() || bytes[at] == b'.' {
            if !is_part(bytes, begin, at) {
                return false;
            }
            parts += 1;
            if at == bytes.len() {
                return 3 <= parts && parts <= 7 && is_version(bytes, begin);
            }
            begin = at + 1;
        }
        at += 1;
    }
    false
}

const fn is_part(bytes: &[u8], begin: usize, end: usize) -> bool {
    if begin == end || !bytes[begin].is_ascii_lowercase() {
        return false;
    }
    let mut at = begin;
    while at < end {
        let byte = bytes[at];
        if !(byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_') {
            return false;
        }
        at += 1;
    }
    true
}

const fn is_version(bytes: &[u8], begin: usize) -> bool {
    let mut at = begin + 1;
    if bytes[begin] != b'v' || at == bytes.len() || bytes[at] == b'0' {
        return false;
    }
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            return false;
        }
        at += 1;
    }
    true
}

/// Whether `text` can be a subject or a partition key: 1 to 512 bytes without control characters.
#[must_use]
pub fn is_subject(text: &str) -> bool {
    (1..=MAX_SUBJECT).contains(&text.len()) && !text.chars().any(char::is_control)
}

pub(super) fn checked_subject(
    kind: Cow<'static, str>,
    field: &'static str,
    text: String,
) -> Result<String, EmitError> {
    if is_subject(&text) {
        Ok(text)
    } else {
        Err(EmitError::Subject { kind, field })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_an_area_a_thing_and_a_version() {
        for name in [
            "note.added.v1",
            "notes.tag.removed.v12",
            "custom.order_2.paid.v1",
        ] {
            assert!(is_event_type(name), "{name}");
        }
        let long = format!("{}.added.v1", "a".repeat(MAX_TYPE));
        for name in [
            "",
            ".",
            "note",
            "note.v1",
            "v1",
            "note.added",
            "note.added.v",
            "note.added.v0",
            "note.added.v01",
            "note.added.1",
            "note..v1",
            "Note.added.v1",
            "note.added.v1.",
            ".note.added.v1",
            "note.ad-ded.v1",
            "note.1added.v1",
            "note.added.v1x",
            "a.b.c.d.e.f.g.v1",
            &long,
        ] {
            assert!(!is_event_type(name), "{name}");
        }
    }

    /// The one is answered 500 and logged, the other 422.
    #[test]
    fn a_mistake_of_the_module_is_no_value_of_the_client() {
        let kind = Cow::Borrowed("note.added.v1");
        let (module, bytes) = ("notes", MAX_DATA + 1);
        let undeclared = EmitError::Undeclared {
            kind: kind.clone(),
            module,
        };
        assert!(matches!(DbError::from(undeclared), DbError::Query(_)));
        let large = EmitError::TooLarge { kind, bytes };
        assert!(matches!(DbError::from(large), DbError::InvalidData(_)));
    }

    #[test]
    fn the_types_of_tenants_begin_with_a_word_of_their_own() {
        for (name, is_custom) in [
            ("custom.order.paid.v1", true),
            ("custom.v1", false),
            ("custom", false),
            ("customs.order.paid.v1", false),
            ("note.custom.v1", false),
            ("custom.Order.paid.v1", false),
        ] {
            assert_eq!(is_custom_type(name), is_custom, "{name}");
        }
    }

    #[test]
    fn a_subject_is_short_and_printable() {
        for text in ["notes/1", &"x".repeat(MAX_SUBJECT)] {
            assert!(checked_subject("t".into(), "subject", text.to_owned()).is_ok());
        }
        for text in ["", "a\0b", "a\nb", &"x".repeat(MAX_SUBJECT + 1)] {
            let refused = checked_subject("t".into(), "subject", text.to_owned());
            assert!(matches!(refused, Err(EmitError::Subject { .. })), "{text}");
        }
    }
}
