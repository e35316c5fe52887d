//! The secrets of the process, as they stood at one moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    hash::{BuildHasher, RandomState},
    sync::LazyLock,
};

use secrecy::{ExposeSecret, SecretString};

use super::LeaseHold;
use crate::supervision::Reason;

/// A table of secrets by the name of their setting. It never changes: a refresh publishes another.
///
/// Values are wiped from memory when the last copy of the table goes.
#[derive(Clone, Default)]
pub struct SecretStore {
    secrets: BTreeMap<String, Secret>,
    /// Why a secret that was there is not any more.
    absences: BTreeMap<String, Reason>,
}

#[derive(Clone)]
struct Secret {
    value: SecretString,
    from_vault: bool,
    hold: Option<LeaseHold>,
}

impl SecretStore {
    /// The secret of setting `key`, if it has one.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&SecretString> {
        self.secrets.get(key).map(|secret| &secret.value)
    }

    /// What keeps the lease on the secret of `key`, if it is leased.
    #[must_use]
    pub fn hold(&self, key: &str) -> Option<&LeaseHold> {
        self.secrets.get(key)?.hold.as_ref()
    }

    /// Why the secret of `key` is not there any more, if that is known.
    #[must_use]
    pub fn absence(&self, key: &str) -> Option<Reason> {
        self.absences.get(key).copied()
    }

    /// The settings that have a secret, in alphabetical order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.secrets.keys().map(String::as_str)
    }

    /// Whether any secret in it came from Vault.
    #[must_use]
    pub fn is_from_vault(&self) -> bool {
        self.secrets.values().any(|secret| secret.from_vault)
    }

    /// Equal for equal values of `keys`, and of no use for finding out what they are: the hash is
    /// keyed with randomness that this process shares with nobody.
    pub(super) fn fingerprint_of(&self, keys: &BTreeSet<&str>) -> u64 {
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let plain: Vec<_> = keys.iter().map(|key| (key, self.plain(key))).collect();
        KEY.hash_one(plain)
    }

    /// The settings whose secret was added, removed or altered between `self` and `later`.
    #[must_use]
    pub fn changed_keys(&self, later: &Self) -> Vec<String> {
        let differs = |key: &&String| self.plain(key) != later.plain(key);
        let removed = self
            .secrets
            .keys()
            .filter(|key| !later.secrets.contains_key(*key));
        let mut changed: Vec<_> = later
            .secrets
            .keys()
            .filter(differs)
            .chain(removed)
            .cloned()
            .collect();
        changed.sort_unstable();
        changed
    }

    pub(super) fn insert_literal(&mut self, key: &str, value: SecretString) {
        self.secrets.insert(
            key.to_owned(),
            Secret {
                value,
                from_vault: false,
                hold: None,
            },
        );
    }

    pub(super) fn insert_from_vault(&mut self, key: &str, value: SecretString) {
        self.secrets.insert(
            key.to_owned(),
            Secret {
                value,
                from_vault: true,
                hold: None,
            },
        );
    }

    pub(super) fn insert_leased(&mut self, key: &str, value: SecretString, hold: &LeaseHold) {
        let secret = Secret {
            value,
            from_vault: true,
            hold: Some(hold.clone()),
        };
        self.secrets.insert(key.to_owned(), secret);
    }

    pub(super) fn mark_absent(&mut self, key: &str, reason: Reason) {
        self.secrets.remove(key);
        self.absences.insert(key.to_owned(), reason);
    }

    /// Takes over the secret that `former` has for `key`, if any.
    pub(super) fn keep(&mut self, key: &str, former: Option<&Self>) {
        if let Some(secret) = former.and_then(|store| store.secrets.get(key)) {
            self.secrets.insert(key.to_owned(), secret.clone());
        }
    }

    fn plain(&self, key: &str) -> Option<&str> {
        self.get(key).map(ExposeSecret::expose_secret)
    }
}

/// Names only.
impl fmt::Debug for SecretStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.keys().map(|key| (key, "[redacted]")))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(secrets: &[(&str, &str)]) -> SecretStore {
        let mut store = SecretStore::default();
        for (key, value) in secrets {
            store.insert_from_vault(key, (*value).into());
        }
        store
    }

    #[test]
    fn equal_secrets_have_equal_fingerprints_and_others_do_not() {
        let keys = BTreeSet::from(["A", "B"]);
        let one = store(&[("A", "1"), ("B", "2")]).fingerprint_of(&keys);
        let same = store(&[("B", "2"), ("A", "1"), ("C", "of no concern")]);
        assert_eq!(one, same.fingerprint_of(&keys));
        for other in [
            &[("A", "1"), ("B", "3")][..],
            &[("A", "1")],
            &[("A", "1B"), ("", "2")],
            &[("A", "2"), ("B", "1")],
        ] {
            assert_ne!(one, store(other).fingerprint_of(&keys), "{other:?}");
        }
    }

    #[test]
    fn a_change_is_told_by_name() {
        let before = store(&[("A", "1"), ("B", "2"), ("C", "3")]);
        let after = store(&[("B", "2"), ("C", "4"), ("D", "5")]);
        assert_eq!(before.changed_keys(&after), ["A", "C", "D"]);
        assert!(before.changed_keys(&before).is_empty());
    }

    #[test]
    fn debug_shows_names_only() {
        assert_eq!(
            format!("{:?}", store(&[("A", "hunter2")])),
            r#"{"A": "[redacted]"}"#
        );
    }
}
