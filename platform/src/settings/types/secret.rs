//! Secrets: written out, or named by where they are in Vault.

use std::fmt;

use secrecy::SecretString;

use crate::settings::engine::value::{Invalid, Setting};
use dotmac_secrets::{ReferenceError, SecretReference};

/// A secret value, or where in Vault it is. Prints `[redacted]` or the reference.
#[derive(Clone)]
pub enum SecretSetting {
    /// The value itself.
    Literal(SecretString),
    /// Where in Vault the value is.
    Reference(SecretReference),
}

impl fmt::Debug for SecretSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("[redacted]"),
            Self::Reference(reference) => write!(f, "{reference}"),
        }
    }
}

impl Setting for SecretSetting {
    const EXAMPLE: &'static str = "vault:database/password#value";
    const SECRET: bool = true;

    fn expected() -> String {
        "a secret or vault:PATH#FIELD".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Invalid> {
        if SecretReference::is_reference(text) {
            let reference = text.parse().map_err(|error: ReferenceError| {
                Invalid::because(error.to_string())
                    .instead("write e.g. vault:database/password#value")
            })?;
            return Ok(Self::Reference(reference));
        }
        if text.trim().is_empty() || text.contains('\0') {
            return Err(Invalid::because("it is blank or holds a null character"));
        }
        Ok(Self::Literal(SecretString::from(text)))
    }

    // A reference is no secret, but a secret may look like a wrong reference.
    fn shown(text: &str) -> Option<String> {
        text.parse::<SecretReference>()
            .ok()
            .map(|reference| reference.to_string())
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
