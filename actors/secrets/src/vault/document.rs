//! One secret as Vault keeps it: a few named fields, and in KV v2 a version.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde_json::{Map, Value};

use crate::{SecretReference, SecretsError};

/// The field that is meant when none is named.
const DEFAULT_FIELD: &str = "value";

/// The fields of one secret. `Debug` shows their names only.
#[derive(Clone, Debug)]
pub struct Document {
    fields: BTreeMap<String, SecretString>,
    version: Option<Version>,
}

/// Which version of a secret in KV v2. Equal versions of one path hold equal fields, also if all versions were deleted
/// and the count began again: the time of writing distinguishes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) number: u64,
    written: String,
}

impl Version {
    /// From the `metadata` of a KV v2 answer; `None` if it does not say both.
    fn of(metadata: &Value) -> Option<Self> {
        Some(Self {
            number: metadata.get("version")?.as_u64()?,
            written: metadata.get("created_time")?.as_str()?.to_owned(),
        })
    }
}

impl Document {
    /// From the `data` of a KV v1 answer.
    pub(crate) fn from_kv1(data: Value) -> Option<Self> {
        match data {
            Value::Object(fields) => Some(Self {
                fields: readable(fields),
                version: None,
            }),
            _ => None,
        }
    }

    /// From the `data` of a KV v2 answer; `None` if its latest version was deleted.
    pub(crate) fn from_kv2(mut data: Value) -> Option<Self> {
        let version = data.get("metadata").and_then(Version::of);
        match data.get_mut("data").map(Value::take) {
            Some(Value::Object(fields)) => Some(Self {
                fields: readable(fields),
                version,
            }),
            _ => None,
        }
    }

    /// The version that was read; `None` in KV v1.
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        self.version.as_ref().map(|version| version.number)
    }

    pub(crate) fn exact_version(&self) -> Option<&Version> {
        self.version.as_ref()
    }

    /// The value that `reference` means: its field, or `value`, or the only field.
    ///
    /// # Errors
    ///
    /// [`SecretsError::FieldMissing`] or [`SecretsError::FieldUnclear`], with the names that exist.
    pub fn field(&self, reference: &SecretReference) -> Result<&SecretString, SecretsError> {
        let path = || reference.path.clone();
        let found = || self.fields.keys().cloned().collect();
        if let Some(field) = &reference.field {
            return self
                .fields
                .get(field)
                .ok_or_else(|| SecretsError::FieldMissing {
                    path: path(),
                    field: field.clone(),
                    found: found(),
                });
        }
        let only = || {
            self.fields
                .values()
                .next()
                .filter(|_| self.fields.len() == 1)
        };
        let meant = self.fields.get(DEFAULT_FIELD).or_else(only);
        meant.ok_or_else(|| SecretsError::FieldUnclear {
            path: path(),
            found: found(),
        })
    }
}

/// Numbers, booleans and structures count as their JSON text; a null is no value.
fn readable(fields: Map<String, Value>) -> BTreeMap<String, SecretString> {
    let text = |value| match value {
        Value::Null => None,
        Value::String(text) => Some(SecretString::from(text)),
        other => Some(SecretString::from(other.to_string())),
    };
    fields
        .into_iter()
        .filter_map(|(name, value)| Some((name, text(value)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;
    use serde_json::json;

    use super::*;
    use crate::reason;

    fn pick(data: Value, reference: &str) -> Result<String, String> {
        let document = Document::from_kv1(data).ok_or("no document")?;
        let reference = reference.parse().map_err(|e| format!("{e}"))?;
        let field = document
            .field(&reference)
            .map_err(|e| format!("{}: {e}", e.reason()))?;
        Ok(field.expose_secret().to_owned())
    }

    #[test]
    fn a_field_is_the_named_one_else_value_else_the_only_one() {
        assert_eq!(
            pick(json!({"a": "1", "b": "2"}), "vault:x#b").as_deref(),
            Ok("2")
        );
        assert_eq!(
            pick(json!({"a": "1", "value": "2"}), "vault:x").as_deref(),
            Ok("2")
        );
        assert_eq!(pick(json!({"a": "1"}), "vault:x").as_deref(), Ok("1"));
        assert_eq!(pick(json!({"a": 8080}), "vault:x").as_deref(), Ok("8080"));
    }

    #[test]
    fn a_missing_field_is_answered_with_the_names_that_exist() {
        let missing = pick(json!({"a": "1", "b": null}), "vault:x#b")
            .err()
            .unwrap_or_default();
        assert_eq!(
            missing,
            "field_missing: secret `x` has no field `b`; it has `a`: correct the reference or add the field"
        );
        let unclear = pick(json!({"a": "1", "b": "2"}), "vault:x")
            .err()
            .unwrap_or_default();
        assert!(
            unclear.starts_with(reason::FIELD_MISSING.as_str()) && unclear.contains("`a`, `b`"),
            "{unclear}"
        );
    }

    #[test]
    fn a_deleted_version_is_no_document() {
        assert!(Document::from_kv2(json!({"data": null, "metadata": {"version": 3}})).is_none());
        let document = Document::from_kv2(json!({
            "data": {"a": "1"},
            "metadata": {"version": 3, "created_time": "2026-01-01T00:00:00.1Z"},
        }));
        assert_eq!(document.and_then(|d| d.version()), Some(3));
    }

    #[test]
    fn debug_shows_field_names_only() {
        let document = Document::from_kv1(json!({"a": "hunter2"}));
        assert!(!format!("{document:?}").contains("hunter2"));
    }
}
