//! Ways to log in, and where what they need comes from.

use std::{fmt, path::PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::VaultFailure;

/// How to log in.
#[derive(Clone)]
#[non_exhaustive]
pub enum Auth {
    /// With a token that another party issued. It stays theirs: it is renewed, never revoked.
    Token(Credential),
    /// With a role id and a secret id.
    AppRole {
        /// Where the auth method is mounted, usually `approle`.
        mount: String,
        /// Which role; not secret by itself.
        role_id: Credential,
        /// The proof.
        secret_id: Credential,
        /// Whether the proof is the token of a response that wraps the secret id. It is unwrapped
        /// once, and the secret id is kept until another token is given.
        wrapped: bool,
    },
    /// With the token of a Kubernetes service account.
    Kubernetes {
        /// Where the auth method is mounted, usually `kubernetes`.
        mount: String,
        /// Which role.
        role: String,
        /// The token, as it is mounted into the pod.
        jwt: Credential,
    },
    /// With a JWT that some issuer has signed.
    Jwt {
        /// Where the auth method is mounted, usually `jwt`.
        mount: String,
        /// Which role; the method's default if absent.
        role: Option<String>,
        /// The proof.
        jwt: Credential,
    },
    /// With a TLS client certificate.
    Certificate {
        /// Where the auth method is mounted, usually `cert`.
        mount: String,
        /// Which role; any that matches if absent.
        role: Option<String>,
        /// PEM file with the certificate and what leads to its authority.
        certificate: PathBuf,
        /// PEM file with its private key.
        key: PathBuf,
    },
}

/// A credential: written out, or in a file that is read at each login, since others rotate it.
#[derive(Clone)]
pub enum Credential {
    /// The thing itself.
    Value(SecretString),
    /// A file that holds it; white space around it does not count.
    File(PathBuf),
}

impl Auth {
    /// Its name in errors and logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::AppRole { .. } => "AppRole",
            Self::Kubernetes { .. } => "Kubernetes service account",
            Self::Jwt { .. } => "JWT",
            Self::Certificate { .. } => "client certificate",
        }
    }

    /// Where the method is mounted; a token needs none.
    pub(crate) fn mount(&self) -> Option<&str> {
        match self {
            Self::Token(_) => None,
            Self::AppRole { mount, .. }
            | Self::Kubernetes { mount, .. }
            | Self::Jwt { mount, .. }
            | Self::Certificate { mount, .. } => Some(mount),
        }
    }

    pub(crate) fn has_certificate(&self) -> bool {
        matches!(self, Self::Certificate { .. })
    }

    /// The present credential of the login; none for a certificate, which the TLS layer sends.
    pub(crate) async fn proof(&self) -> Result<Option<SecretString>, VaultFailure> {
        let credential = match self {
            Self::Token(credential)
            | Self::AppRole {
                secret_id: credential,
                ..
            }
            | Self::Kubernetes {
                jwt: credential, ..
            }
            | Self::Jwt {
                jwt: credential, ..
            } => credential,
            Self::Certificate { .. } => return Ok(None),
        };
        credential.read(self.name()).await.map(Some)
    }

    /// The body of the login with `proof`.
    pub(crate) async fn body(&self, proof: &SecretString) -> Result<Value, VaultFailure> {
        let proof = proof.expose_secret();
        Ok(match self {
            Self::Token(_) => Value::Null,
            Self::AppRole { role_id, .. } => {
                let role_id = role_id.read(self.name()).await?;
                json!({ "role_id": role_id.expose_secret(), "secret_id": proof })
            }
            Self::Kubernetes { role, .. } => json!({ "role": role, "jwt": proof }),
            Self::Jwt { role, .. } => match role {
                Some(role) => json!({ "role": role, "jwt": proof }),
                None => json!({ "jwt": proof }),
            },
            Self::Certificate { role, .. } => match role {
                Some(role) => json!({ "name": role }),
                None => json!({}),
            },
        })
    }
}

impl Credential {
    /// Its present value.
    pub(crate) async fn read(&self, method: &'static str) -> Result<SecretString, VaultFailure> {
        let path = match self {
            Self::Value(value) => return Ok(value.clone()),
            Self::File(path) => path.clone(),
        };
        let unusable = |detail: String| VaultFailure::Credential {
            method,
            path: path.clone(),
            detail,
        };
        let text = dotmac_bounded_read::read_text_async(&path).await;
        let text = text.map_err(|error| unusable(error.to_string()))?;
        match text.trim() {
            "" => Err(unusable("it is empty".to_owned())),
            text => Ok(SecretString::from(text)),
        }
    }
}

impl<T: Into<SecretString>> From<T> for Credential {
    fn from(value: T) -> Self {
        Self::Value(value.into())
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(_) => f.write_str("[redacted]"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(self.name())
            .field("mount", &self.mount())
            .finish_non_exhaustive()
    }
}
