//! Secrets: written out, or named by where they are in Vault.

use std::fmt;

use secrecy::SecretString;

use crate::settings::{Invalid, KeySpec, Setting};
use dotmac_secrets::{ReferenceError, SecretReference};

/// A secret, by its key: written out, in Vault, or missing. Prints `[redacted]` or the reference.
///
/// A module hands it to its mount, which gives it the value and each other that takes its place.
#[derive(Clone)]
pub struct SecretSetting {
    key: String,
    given: Given,
}

#[derive(Clone)]
enum Given {
    Nothing,
    Literal(SecretString),
    Reference(SecretReference),
}

impl SecretSetting {
    /// Full name of the key, by which the value is followed.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether the key is set, also to a reference. Without that the secret may still be at its default
    /// path in Vault.
    #[must_use]
    pub fn is_given(&self) -> bool {
        !matches!(self.given, Given::Nothing)
    }

    /// The value, if it is written out: for what can be said of it, or refused, before anything runs.
    #[must_use]
    pub fn literal(&self) -> Option<&SecretString> {
        match &self.given {
            Given::Literal(value) => Some(value),
            Given::Nothing | Given::Reference(_) => None,
        }
    }

    /// Its place in Vault, if one is configured.
    #[must_use]
    pub fn reference(&self) -> Option<&SecretReference> {
        match &self.given {
            Given::Reference(reference) => Some(reference),
            Given::Nothing | Given::Literal(_) => None,
        }
    }

    /// With `value` in place of nothing.
    pub(crate) fn or_literal(&self, value: Option<SecretString>) -> Self {
        match value {
            Some(value) if !self.is_given() => Self {
                key: self.key.clone(),
                given: Given::Literal(value),
            },
            _ => self.clone(),
        }
    }
}

impl fmt::Debug for SecretSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.given {
            Given::Nothing => f.write_str("not given"),
            Given::Literal(_) => f.write_str("[redacted]"),
            Given::Reference(reference) => write!(f, "{reference}"),
        }
    }
}

impl Setting for SecretSetting {
    const EXAMPLE: &'static str = "vault:database/password#value";
    const SECRET: bool = true;
    const FOLLOWED: bool = true;

    fn expected() -> String {
        "a secret or vault:PATH#FIELD".to_owned()
    }

    /// An empty text is an unset secret.
    fn parse(text: &str) -> Result<Self, Invalid> {
        let given = if text.is_empty() {
            Given::Nothing
        } else if SecretReference::is_reference(text) {
            let reference = text.parse().map_err(|error: ReferenceError| {
                Invalid::because(error.to_string())
                    .instead("write e.g. vault:database/password#value")
            })?;
            Given::Reference(reference)
        } else if text.trim().is_empty() || text.contains('\0') {
            return Err(Invalid::because("it is blank or holds a null character"));
        } else {
            Given::Literal(SecretString::from(text))
        };
        let key = String::new();
        Ok(Self { key, given })
    }

    // A reference is no secret, but a secret may look like a wrong reference.
    fn shown(text: &str) -> Option<String> {
        text.parse::<SecretReference>()
            .ok()
            .map(|reference| reference.to_string())
    }

    fn of_key(mut self, spec: &KeySpec) -> Self {
        self.key = spec.key();
        self
    }
}

/// Where a secrets engine is mounted, without leading or trailing slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPath(String);

impl MountPath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Setting for MountPath {
    const EXAMPLE: &'static str = "secret";

    fn expected() -> String {
        "a path without leading or trailing slash".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Invalid> {
        // A mount follows the rules of a path below it; a `#` would end the path.
        match format!("{}{text}", SecretReference::SCHEME).parse::<SecretReference>() {
            Ok(SecretReference { field: None, .. }) => Ok(Self(text.to_owned())),
            _ => Err(Invalid::plain()),
        }
    }
}
