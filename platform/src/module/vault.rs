//! Secrets that a module makes itself and keeps in Vault.

use std::collections::BTreeMap;

use dotmac_secrets::{
    Expected, GetSecret, PutSecret, SecretPath, SecretReference, SecretString, SecretsActor,
    SecretsError,
};
use dotmac_supervision::{ActorHandle, CallError};

use super::{Assembly, Mount};

/// The way of a module to Vault: [`Mount::vault`], [`CommandContext::vault`](super::CommandContext::vault). Clones share it.
///
/// It is for what the module makes itself; a secret of an operator is a [setting](Mount::secret), which can be given without
/// Vault as well. Not within a transaction: Vault may take its time.
#[derive(Clone)]
pub struct ModuleVault(ActorHandle<SecretsActor>);

/// Why a secret was not read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModuleVaultError {
    /// Vault did not do it.
    #[error(transparent)]
    Vault(#[from] SecretsError),
    /// The actor `secrets` did not do it.
    #[error(transparent)]
    Actor(#[from] CallError),
}

impl ModuleVaultError {
    /// Whether a policy of Vault's forbids the write, so that nothing was written.
    #[must_use]
    pub fn is_write_denied(&self) -> bool {
        matches!(self, Self::Vault(error) if error.is_write_denied())
    }
}

impl ModuleVault {
    /// One field of a secret. At most one refresh interval old.
    ///
    /// # Errors
    ///
    /// [`ModuleVaultError`]; asking again later is safe.
    pub async fn read(&self, reference: SecretReference) -> Result<SecretString, ModuleVaultError> {
        Ok(self.0.call(GetSecret { reference }).await??)
    }

    /// Writes all fields of a secret, in the place of those that there are, if the version that there is, is the one
    /// `expected`; the new version, `None` in KV v1. A policy must allow `create` on the path, and `update` if there is something
    /// already.
    ///
    /// # Errors
    ///
    /// [`SecretsError::Changed`] for another version. After any other than that and a
    /// [denial](ModuleVaultError::is_write_denied) it may be written or not.
    pub async fn write(
        &self,
        path: SecretPath,
        fields: BTreeMap<String, SecretString>,
        expected: Expected,
    ) -> Result<Option<u64>, ModuleVaultError> {
        let put = PutSecret {
            path,
            fields,
            expected,
        };
        Ok(self.0.call(put).await??)
    }
}

impl Assembly {
    /// The way of a module to Vault, if there is one.
    pub(super) fn module_vault(&self) -> Option<ModuleVault> {
        self.has_vault().then(|| ModuleVault(self.secrets.clone()))
    }
}

impl Mount<'_> {
    /// Vault, for secrets that the module makes itself; `None` if it is not configured.
    #[must_use]
    pub fn vault(&self) -> Option<ModuleVault> {
        self.assembly.module_vault()
    }
}
