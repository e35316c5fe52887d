//! What is different in newer settings, and what of it a running process can take.

use secrecy::ExposeSecret as _;

use crate::settings::{Entry, Origin, Settings};

/// A key whose value is another one in newer settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Full name of the key.
    pub key: String,
    /// The former value, secrets redacted; empty if it was not set.
    pub old: String,
    /// The new value, secrets redacted; empty if it is not set.
    pub new: String,
    /// Whether it can be applied now; else it needs a restart.
    pub live: bool,
}

impl Settings {
    /// What is different in `new`, key by key. Both are read with the same catalogue.
    #[must_use]
    pub fn diff(&self, new: &Self) -> Vec<Change> {
        // Both lists come from the same table, so the keys stand side by side.
        let pairs = self.entries.iter().zip(&new.entries);
        pairs
            .filter(|(old, _)| self.is_in_effect(old))
            .filter(|(old, new)| old.text.expose_secret() != new.text.expose_secret())
            .map(|(old, new)| Change {
                key: old.key.clone(),
                old: old.shown(),
                new: new.shown(),
                live: old.spec.live || new.is_read_at_each_use() || old.lasts_in(new),
            })
            .collect()
    }
}

impl Entry {
    /// A credential for Vault that lies in a file is read from there at each login.
    fn is_read_at_each_use(&self) -> bool {
        let is_credential = self.spec.kind.secret && self.spec.is_of("VAULT_");
        is_credential && matches!(self.origin, Origin::File(_))
    }

    /// Whether `new` differs only in what is taken live.
    fn lasts_in(&self, new: &Self) -> bool {
        let lasting = |entry: &Self| (entry.spec.kind.lasting)(entry.text.expose_secret());
        lasting(self) == lasting(new)
    }
}
