//! Which secrets the settings name, and where each comes from.

use dotmac_secrets::SecretPath;
use secrecy::{ExposeSecret, SecretString};

use crate::settings::{Entry, SecretReference, Settings};

/// The key with which the program signs and authenticates.
pub(crate) const APP_SECRET_KEY: &str = "DOTMAC_APP_SECRET_KEY";

/// The keys with which the program seals secrets in the database.
pub(crate) const APP_MASTER_KEY: &str = "DOTMAC_APP_MASTER_KEY";

/// The program's own secrets, for their consumers.
const OWN: [&str; 2] = [APP_SECRET_KEY, APP_MASTER_KEY];

/// A secret that is to be read from Vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedSecret {
    /// Full name of the key whose value it is.
    pub key: String,
    /// Where in Vault it is.
    pub reference: SecretReference,
    /// Whether it must be there: the operator named the place, or the secret is needed. Else it is the key's
    /// default path, and there may be nothing.
    pub must_exist: bool,
}

impl Settings {
    /// The secrets to read from Vault: every reference, and for a secret that is not set the default path of
    /// its key. Empty if Vault is not enabled. Those of a module that is switched off are not wanted.
    #[must_use]
    pub fn wanted_secrets(&self) -> Vec<WantedSecret> {
        if !self.vault.enabled {
            return Vec::new();
        }
        let entries = self.entries.iter().filter(|it| self.is_in_effect(it));
        entries.filter_map(|entry| self.wanted(entry)).collect()
    }

    fn wanted(&self, entry: &Entry) -> Option<WantedSecret> {
        let key = entry.key.clone();
        if let Some(reference) = entry.reference() {
            return Some(WantedSecret {
                key,
                reference,
                must_exist: true,
            });
        }
        let path = entry.spec.vault.filter(|_| !entry.is_set())?;
        let (lacks_username, lacks_password) = self.database.lacks();
        let is_used = match key.as_str() {
            "DOTMAC_DATABASE_USERNAME" => lacks_username,
            "DOTMAC_DATABASE_PASSWORD" => lacks_password,
            own if OWN.contains(&own) => false,
            _ => true,
        };
        let reference = format!("{}{path}", SecretReference::SCHEME).parse().ok()?;
        is_used.then(|| WantedSecret {
            must_exist: self.needed.contains(&key),
            key,
            reference,
        })
    }

    /// Whether the secret of that key is given, or looked for in Vault.
    pub(crate) fn has_secret(&self, key: &str) -> bool {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        self.vault.enabled || entry.is_some_and(Entry::is_set)
    }

    /// Where in Vault a secret of the program's own is looked for, if it is not set.
    pub(crate) fn own_secret_path(&self, key: &str) -> Option<SecretPath> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        let path = entry.spec.vault.filter(|_| !entry.is_set())?;
        path.parse().ok()
    }

    /// The secrets of modules, and those of the program's own, that the settings hold themselves, by full key.
    pub(crate) fn literals_of_modules(&self) -> impl Iterator<Item = (&str, &SecretString)> {
        let entries = self.entries.iter().filter(|entry| {
            let is_read_here = entry.module.is_some() || OWN.contains(&entry.key.as_str());
            is_read_here && self.is_in_effect(entry) && entry.is_literal()
        });
        entries.map(|entry| (entry.key.as_str(), &entry.text))
    }
}

impl Entry {
    /// Where in Vault the value is, if it is a secret and the operator named a place.
    pub(crate) fn reference(&self) -> Option<SecretReference> {
        let text = self.text.expose_secret();
        self.spec.kind.followed.then(|| text.parse().ok())?
    }

    /// Whether it is a secret that is written out.
    pub(crate) fn is_literal(&self) -> bool {
        self.spec.kind.secret && self.is_set() && self.reference().is_none()
    }
}
