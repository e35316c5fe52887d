//! The secrets of the process, as they stood at one moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    hash::{BuildHasher, RandomState},
    sync::LazyLock,
};

use secrecy::{ExposeSecret, SecretString};

use crate::{LeaseHold, SecretReference, vault::Version};
use dotmac_supervision::Reason;

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
    source: Source,
}

#[derive(Clone)]
enum Source {
    Literal,
    /// With the place and the version there, where the server counts them.
    Kv(Option<Versioned>),
    Leased(LeaseHold),
}

/// Where a secret lies, and which version of it.
pub(crate) type Versioned = (SecretReference, Version);

impl Source {
    fn version(&self) -> Option<&Versioned> {
        match self {
            Self::Kv(versioned) => versioned.as_ref(),
            Self::Literal | Self::Leased(_) => None,
        }
    }
}

impl Secret {
    /// Whether it has the value of `other`: by version where both have one of the same place, which
    /// needs no look at the values.
    fn has_value_of(&self, other: &Self) -> bool {
        self.is_version_of(other) || self.value.expose_secret() == other.value.expose_secret()
    }

    fn is_version_of(&self, other: &Self) -> bool {
        let versions = (self.source.version(), other.source.version());
        versions.0.is_some() && versions.0 == versions.1
    }

    /// Whether it equals `other` in value, version and lease.
    fn is(&self, other: &Self) -> bool {
        match (&self.source, &other.source) {
            (Source::Leased(it), Source::Leased(other)) => it.is(other),
            (Source::Literal, Source::Literal) | (Source::Kv(None), Source::Kv(None)) => {
                self.has_value_of(other)
            }
            _ => self.is_version_of(other),
        }
    }
}

impl SecretStore {
    /// The secret of setting `key`, if it has one.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&SecretString> {
        self.secrets.get(key).map(|secret| &secret.value)
    }

    /// The hold on the lease of the secret of `key`, if it is leased.
    #[must_use]
    pub fn hold(&self, key: &str) -> Option<&LeaseHold> {
        match &self.secrets.get(key)?.source {
            Source::Leased(hold) => Some(hold),
            Source::Literal | Source::Kv(_) => None,
        }
    }

    /// The version of the secret of `key` in KV v2; `None` for any other.
    #[must_use]
    pub fn version(&self, key: &str) -> Option<u64> {
        let (_, version) = self.secrets.get(key)?.source.version()?;
        Some(version.number)
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
        let mut sources = self.secrets.values().map(|secret| &secret.source);
        sources.any(|source| !matches!(source, Source::Literal))
    }

    /// Equal for equal values of `keys`, and useless for guessing them: the hash is keyed with random bytes of this
    /// process.
    pub(crate) fn fingerprint_of(&self, keys: &BTreeSet<&str>) -> u64 {
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let plain: Vec<_> = keys.iter().map(|key| (key, self.plain(key))).collect();
        KEY.hash_one(plain)
    }

    /// The settings whose secret was added, removed or altered between `self` and `later`.
    #[must_use]
    pub fn changed_keys(&self, later: &Self) -> Vec<String> {
        self.differing(later, Secret::has_value_of)
    }

    /// Whether `later` says nothing that `self` does not say, versions and leases included.
    pub(crate) fn is(&self, later: &Self) -> bool {
        self.absences == later.absences && self.differing(later, Secret::is).is_empty()
    }

    fn differing(&self, later: &Self, same: impl Fn(&Secret, &Secret) -> bool) -> Vec<String> {
        let keys: BTreeSet<_> = self.secrets.keys().chain(later.secrets.keys()).collect();
        let differs = |key: &&String| match (self.secrets.get(*key), later.secrets.get(*key)) {
            (Some(former), Some(latter)) => !same(former, latter),
            _ => true,
        };
        keys.into_iter().filter(differs).cloned().collect()
    }

    pub(crate) fn insert_literal(&mut self, key: &str, value: SecretString) {
        self.insert(key, value, Source::Literal);
    }

    pub(crate) fn insert_from_vault(
        &mut self,
        key: &str,
        value: SecretString,
        versioned: Option<Versioned>,
    ) {
        self.insert(key, value, Source::Kv(versioned));
    }

    pub(crate) fn insert_leased(&mut self, key: &str, value: SecretString, hold: &LeaseHold) {
        self.insert(key, value, Source::Leased(hold.clone()));
    }

    fn insert(&mut self, key: &str, value: SecretString, source: Source) {
        self.secrets
            .insert(key.to_owned(), Secret { value, source });
    }

    pub(crate) fn mark_absent(&mut self, key: &str, reason: Reason) {
        self.secrets.remove(key);
        self.absences.insert(key.to_owned(), reason);
    }

    /// Takes over the secret that `former` has for `key`, if any.
    pub(crate) fn keep(&mut self, key: &str, former: Option<&Self>) {
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
    use crate::Document;

    fn store(secrets: &[(&str, &str)]) -> SecretStore {
        let mut store = SecretStore::default();
        for (key, value) in secrets {
            store.insert_from_vault(key, (*value).into(), None);
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
    fn a_change_is_reported_by_name() {
        let before = store(&[("A", "1"), ("B", "2"), ("C", "3")]);
        let after = store(&[("B", "2"), ("C", "4"), ("D", "5")]);
        assert_eq!(before.changed_keys(&after), ["A", "C", "D"]);
        assert!(before.changed_keys(&before).is_empty());
    }

    type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

    fn versioned(value: &str, number: u64, day: u64) -> Outcome<SecretStore> {
        let written = format!("2026-01-0{day}T00:00:00Z");
        let answer = serde_json::json!({
            "data": { "value": value },
            "metadata": { "version": number, "created_time": written },
        });
        let version = Document::from_kv2(answer).and_then(|it| it.exact_version().cloned());
        let place: SecretReference = "vault:a".parse()?;
        let mut store = SecretStore::default();
        store.insert_from_vault("A", value.into(), version.map(|it| (place, it)));
        Ok(store)
    }

    #[test]
    fn the_same_version_is_unchanged_and_another_is_compared_by_value() -> Outcome {
        let first = versioned("1", 1, 1)?;
        assert_eq!(first.version("A"), Some(1));
        // Two values of one version cannot be: so it shows that values are not looked at.
        let same = versioned("not looked at", 1, 1)?;
        assert!(first.is(&same) && first.changed_keys(&same).is_empty());
        let second = versioned("1", 2, 2)?;
        assert!(!first.is(&second), "its version is another");
        assert!(first.changed_keys(&second).is_empty(), "its value is not");
        assert_eq!(first.changed_keys(&versioned("2", 2, 2)?), ["A"]);
        let again = versioned("2", 1, 3)?;
        assert_eq!(first.changed_keys(&again), ["A"], "deleted and begun again");
        Ok(())
    }

    #[test]
    fn debug_shows_names_only() {
        assert_eq!(
            format!("{:?}", store(&[("A", "hunter2")])),
            r#"{"A": "[redacted]"}"#
        );
    }
}
