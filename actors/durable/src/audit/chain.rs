//! The links of the chain: what is hashed, and how.

use std::{borrow::Cow, collections::BTreeMap, fmt, str::FromStr};

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::StoredEntry;

/// The hash of an entry and of all before it. Written as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hash(pub(super) [u8; SHA256_OUTPUT_LEN]);

impl Hash {
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.try_into().ok()?))
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        self.0.to_vec()
    }

    /// The hash of an entry, given as its canonical JSON, behind the one with this hash.
    pub(super) fn then(self, canonical: &str) -> Self {
        Self::of([&self.0[..], canonical.as_bytes()])
    }

    /// The hash of these bytes, one after another.
    pub(super) fn of<'b>(parts: impl IntoIterator<Item = &'b [u8]>) -> Self {
        let mut hashing = Hashing::new();
        for part in parts {
            hashing.update(part);
        }
        hashing.finish()
    }
}

/// The hash of bytes that come piece by piece.
#[derive(Clone)]
pub(super) struct Hashing(Context);

impl Hashing {
    pub(super) fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(&self) -> Hash {
        let mut hash = Hash::default();
        hash.0.copy_from_slice(self.0.clone().finish().as_ref());
        hash
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

/// A text that is no hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hash has 64 hexadecimal digits")]
pub struct HashError;

impl FromStr for Hash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        let bytes = from_hex(text).ok_or(HashError)?;
        Self::from_bytes(&bytes).ok_or(HashError)
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// An entry as it is hashed: JSON in the canonical form of RFC 8785, of which these fields are in order. All names are in
/// ASCII, and all values but `number` are texts or null.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Canonical<'e> {
    action: Cow<'e, str>,
    actor: Cow<'e, str>,
    at: String,
    details: Cow<'e, BTreeMap<String, String>>,
    id: String,
    pub(super) number: i64,
    outcome: Cow<'e, str>,
    /// Personal fields, encrypted, in hexadecimal digits.
    personal: Option<String>,
    reason: Option<Cow<'e, str>>,
    resource_id: Cow<'e, str>,
    resource_type: Cow<'e, str>,
    subject: Option<String>,
    pub(super) tenant_id: String,
    trace_id: Option<Cow<'e, str>>,
}

impl<'e> Canonical<'e> {
    pub(super) fn new(number: i64, entry: &'e StoredEntry) -> Self {
        Self {
            action: Cow::Borrowed(&entry.action),
            actor: Cow::Borrowed(&entry.actor),
            at: entry.at.to_string(),
            details: Cow::Borrowed(&entry.details.0),
            id: entry.id.to_string(),
            number,
            outcome: Cow::Borrowed(&entry.outcome),
            personal: entry.personal.as_deref().map(to_hex),
            reason: entry.reason.as_deref().map(Cow::Borrowed),
            resource_id: Cow::Borrowed(&entry.resource_id),
            resource_type: Cow::Borrowed(&entry.resource_type),
            subject: entry.subject.map(|it| it.to_string()),
            tenant_id: entry.tenant.to_string(),
            trace_id: entry.trace_id.as_deref().map(Cow::Borrowed),
        }
    }

    /// The same as text. It consists of texts, so it can always be written.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let digit = |half: u8| char::from(DIGITS[usize::from(half & 15)]);
    let digits = bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(*byte)]);
    digits.collect()
}

/// The bytes of a text of hexadecimal digits, in lower case as they are written; `None` if it is something else.
pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use dotmac_db::types::{Id, Json, Moment};
    use serde_json::Value;

    use super::*;

    fn entry() -> StoredEntry {
        StoredEntry {
            xid: 0,
            position: 1,
            id: Id::from_uuid(uuid::Uuid::from_u128(1)),
            tenant: Id::from_uuid(uuid::Uuid::from_u128(2)),
            at: Moment::LAST,
            actor: "user:é\u{1}\"\u{7f}".to_owned(),
            action: "note_delete".to_owned(),
            resource_type: "notes.note".to_owned(),
            resource_id: "1".to_owned(),
            outcome: "success".to_owned(),
            reason: None,
            details: Json([("b".into(), "x".into()), ("a".into(), "y".into())].into()),
            subject: None,
            personal: Some(vec![0, 171]),
            trace_id: None,
        }
    }

    /// RFC 8785: sorted names, no white space, the shortest form of each character.
    #[test]
    fn what_is_hashed_is_canonical() {
        let (entry, number) = (entry(), 7);
        let text = Canonical::new(number, &entry).text();
        assert_eq!(
            text,
            "{\"action\":\"note_delete\",\"actor\":\"user:é\\u0001\\\"\u{7f}\",\"at\":\"9999-12-31T23:59:59.000000Z\",\
             \"details\":{\"a\":\"y\",\"b\":\"x\"},\"id\":\"00000000-0000-0000-0000-000000000001\",\"number\":7,\
             \"outcome\":\"success\",\"personal\":\"00ab\",\"reason\":null,\"resource_id\":\"1\",\
             \"resource_type\":\"notes.note\",\"subject\":null,\
             \"tenant_id\":\"00000000-0000-0000-0000-000000000002\",\"trace_id\":null}"
        );
        let Ok(Value::Object(fields)) = serde_json::from_str(&text) else {
            unreachable!("it is an object")
        };
        assert!(fields.keys().is_sorted(), "{fields:?}");
        let read = serde_json::from_str::<Canonical<'_>>(&text);
        assert_eq!(read.map(|it| it.text()).ok(), Some(text));
    }

    #[test]
    fn a_hash_depends_on_the_entry_and_on_all_before() {
        let (one, other) = (Hash::default().then("{}"), Hash::default().then("{ }"));
        assert_ne!(one, other);
        assert_ne!(one.then("{}"), other.then("{}"));
        assert_eq!(one.to_string().parse(), Ok(one));
        for text in [
            "",
            "ab",
            &one.to_string().to_uppercase(),
            &format!("{one}00"),
            "é",
        ] {
            assert_eq!(text.parse::<Hash>(), Err(HashError), "{text}");
        }
    }
}
