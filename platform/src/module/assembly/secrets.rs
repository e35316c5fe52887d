//! The secrets of modules, of which the secrets actor has to know.

use std::sync::{MutexGuard, PoisonError};

use dotmac_secrets::{SecretReference, SecretWatch, Wanted, WantedSource};
use tracing::warn;

use super::Assembly;
use crate::module::MountError;

impl Assembly {
    /// Makes `reference` one of the secrets that are loaded, for `component`.
    ///
    /// # Errors
    ///
    /// In production, if Vault is not enabled. Elsewhere there is no secret then, and a warning.
    pub(in crate::module) fn watch(
        &self,
        component: &'static str,
        reference: SecretReference,
    ) -> Result<SecretWatch, MountError> {
        let key = reference.to_string();
        if !self.vault {
            let absent = self.feed.watch(component, &key);
            let component = component.to_owned();
            let missing = MountError::SecretWithoutVault {
                component,
                reference,
            };
            if self.production {
                return Err(missing);
            }
            warn!(key, "{missing}");
            return Ok(absent);
        }
        let mut wanted = self.own_secrets();
        if wanted.iter().all(|it| it.key != key) {
            wanted.push(Wanted {
                key: key.clone(),
                source: WantedSource::Reference(reference),
            });
        }
        Ok(self.feed.watch(component, &key))
    }

    /// Whether Vault is configured.
    pub(in crate::module) const fn has_vault(&self) -> bool {
        self.vault
    }

    pub(crate) fn own_secrets(&self) -> MutexGuard<'_, Vec<Wanted>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
