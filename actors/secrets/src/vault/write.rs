//! Writing secrets of the KV engine: what a program makes itself, and keeps nowhere else.

use std::{collections::BTreeMap, sync::Arc};

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use super::{Vault, diagnosis::Asking, session::Session};
use crate::{SecretPath, SecretsError, VaultFailure};

/// Which version of a secret a write takes the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The present value, if any.
    Any,
    /// None: the secret was never written, or all of it was deleted. KV v2 alone knows.
    Absent,
    /// The one that was read. KV v2 alone knows.
    Version(u64),
}

impl Expected {
    /// The number that KV v2 compares with; none to write in any case.
    const fn version(self) -> Option<u64> {
        match self {
            Self::Any => None,
            Self::Absent => Some(0),
            Self::Version(number) => Some(number),
        }
    }
}

/// The result of a write.
enum Written {
    /// Done; the version that it made in KV v2.
    Version(Option<u64>),
    /// Another version is there than was expected.
    Changed,
    /// The engine has no versions to compare.
    Unversioned,
}

impl Vault {
    /// Writes all fields of one secret, in the place of those that there are; the new version, `None` in KV v1. A policy must
    /// allow `create` on the path, and `update` if there is something already. If the token turns out to have ended, logs in
    /// again and tries once more.
    ///
    /// # Errors
    ///
    /// [`SecretsError::Changed`] if there is another version than `expected`: read again. [`SecretsError::Unversioned`] if KV v1 is
    /// to compare. [`SecretsError::Login`]; [`SecretsError::Write`]: unless a policy said no, it may have been written all the same.
    pub async fn write(
        &self,
        path: &SecretPath,
        fields: &BTreeMap<String, SecretString>,
        expected: Expected,
    ) -> Result<Option<u64>, SecretsError> {
        // Never closed, so there is always a permit sooner or later.
        let _permit = self.permits.acquire().await;
        let failed = |source| SecretsError::Write {
            path: path.clone(),
            source,
        };
        let write =
            async |session: Arc<Session>| self.write_kv(&session, path, fields, expected).await;
        match self.with_session(write, failed).await? {
            Written::Version(version) => Ok(version),
            Written::Changed => Err(SecretsError::Changed { path: path.clone() }),
            Written::Unversioned => Err(SecretsError::Unversioned { path: path.clone() }),
        }
    }

    async fn write_kv(
        &self,
        session: &Session,
        path: &SecretPath,
        fields: &BTreeMap<String, SecretString>,
        expected: Expected,
    ) -> Result<Written, VaultFailure> {
        let (api_path, versioned) = self.api_path(session, path).await?;
        let data: Map<String, Value> = fields
            .iter()
            .map(|(name, value)| (name.clone(), value.expose_secret().into()))
            .collect();
        let body = match (versioned, expected.version()) {
            (true, None) => json!({ "data": data }),
            (true, Some(version)) => json!({ "data": data, "options": { "cas": version } }),
            (false, None) => Value::Object(data),
            (false, Some(_)) => return Ok(Written::Unversioned),
        };
        match self.call(&api_path, Some(&session.token), Some(body)).await {
            Ok(answer) => {
                let data = answer.data.unwrap_or_default();
                let version = data.get("version").and_then(Value::as_u64);
                if versioned && version.is_none() {
                    return Err(VaultFailure::BadAnswer {
                        detail: "it does not name the written version".to_owned(),
                    });
                }
                Ok(Written::Version(version))
            }
            Err(failure) if failure.refusal().is_some_and(is_mismatch) => Ok(Written::Changed),
            Err(failure) => {
                let asking = Asking::Path {
                    path: &api_path,
                    mount: &self.config.mount,
                    capability: "create",
                };
                Err(self.explain(failure, asking, Some(&session.token)).await)
            }
        }
    }
}

/// Whether that is how KV v2 refuses another version.
fn is_mismatch((status, errors): (u16, String)) -> bool {
    status == 400 && errors.contains("check-and-set parameter did not match")
}
