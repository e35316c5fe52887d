//! The differences of newer settings, and those that a running process can apply.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use secrecy::ExposeSecret as _;

use super::catalogue::{Filled, ModuleGroup};
use super::error::Mistake;
use super::load;
use super::rules::{Findings, RuleInput, Rules};
use super::source::Found;
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
    /// The module that applies it, if it is a live key of one and no secret.
    pub(crate) applied_by: Option<&'static str>,
}

/// The settings of a module as they are once the live ones of them are taken from newer settings.
#[derive(Debug)]
pub(crate) struct Merged {
    module: ModuleGroup,
    pub(crate) group: Arc<dyn Filled>,
    /// The settings that are in use until then.
    pub(crate) former: Arc<dyn Filled>,
    entries: Vec<Entry>,
}

impl Settings {
    /// The differences in `new`, key by key. Both are read with the same catalogue. Of a module that is off
    /// only what switches it on counts.
    #[must_use]
    pub fn diff(&self, new: &Self) -> Vec<Change> {
        // Both lists come from the same table, so the keys stand side by side.
        let pairs = self.entries.iter().zip(&new.entries);
        pairs
            .filter(|(old, _)| self.is_in_effect(old))
            .filter(|(old, new)| old.differs_from(new))
            .map(|(old, new)| Change {
                key: old.key.clone(),
                old: old.shown(),
                new: new.shown(),
                live: old.spec.live || new.is_read_at_each_use() || old.lasts_in(new),
                applied_by: old.module.filter(|_| old.is_applied()),
            })
            .collect()
    }

    /// Keeps the modules on and off as they are in `current`: switching one needs a restart.
    pub(crate) fn keep_modules_of(&mut self, current: &Self) {
        self.off.clone_from(&current.off);
    }

    /// The settings of `module` with its live keys as they are in `new`; the others need a restart.
    ///
    /// # Errors
    ///
    /// The mistakes, if these do not fit together although those in `new` do.
    pub(crate) fn merged(
        &self,
        new: &Self,
        module: &'static str,
    ) -> Result<Option<Merged>, Vec<Mistake>> {
        let mut groups = self.groups.iter();
        let Some((module, former)) = groups.find(|(it, _)| it.name == module) else {
            return Ok(None);
        };
        let pairs = self.entries.iter().zip(&new.entries);
        let entries: Vec<Entry> = pairs
            .map(|(old, new)| {
                let is_taken = old.module == Some(module.name) && old.spec.live;
                if is_taken { new.clone() } else { old.clone() }
            })
            .collect();
        let own = entries.iter().filter(|it| it.module == Some(module.name));
        let texts: BTreeMap<String, Found> = own.map(Entry::found).collect();
        let Some(group) = module.reader.read(&texts) else {
            return Err(vec![load::defect(module.spec, &texts)]);
        };
        let circumstances = RuleInput {
            entries: &entries,
            wrong: &BTreeSet::new(),
            environment: self.app.environment,
            vault_enabled: self.vault.enabled,
        };
        let mut findings = Findings::default();
        let rules = &mut Rules::new(Some(module.spec), &circumstances, &mut findings);
        group.check(rules);
        if findings.mistakes.is_empty() {
            Ok(Some(Merged {
                module: *module,
                group,
                former: Arc::clone(former),
                entries,
            }))
        } else {
            Err(findings.mistakes)
        }
    }

    /// Takes what [`merged`](Self::merged) made, once it is applied.
    pub(crate) fn take(&mut self, merged: Merged) {
        self.entries = merged.entries;
        for (module, group) in &mut self.groups {
            if module.name == merged.module.name {
                *group = Arc::clone(&merged.group);
            }
        }
    }

    /// The type of the settings of `module`, if it is on.
    pub(crate) fn type_of(&self, module: &str) -> Option<TypeId> {
        let mut groups = self.groups.iter();
        groups.find_map(|(it, group)| {
            let group: &dyn Any = &**group;
            (it.name == module).then(|| group.type_id())
        })
    }

    /// The live keys of each module that is on, secrets apart.
    pub(crate) fn applied_keys(&self) -> BTreeMap<&'static str, Vec<String>> {
        let mut keys: BTreeMap<_, Vec<String>> = BTreeMap::new();
        let applied = self.entries.iter().filter(|entry| entry.is_applied());
        for entry in applied.filter(|entry| self.is_in_effect(entry)) {
            if let Some(module) = entry.module {
                keys.entry(module).or_default().push(entry.key.clone());
            }
        }
        keys
    }
}

impl Entry {
    fn differs_from(&self, new: &Self) -> bool {
        self.text.expose_secret() != new.text.expose_secret()
    }

    /// Whether a change is handed to a function of its module. Secrets are followed by their keys.
    fn is_applied(&self) -> bool {
        self.module.is_some() && self.spec.live && !self.spec.kind.followed
    }

    /// A credential for Vault in a file is read from there at each login.
    fn is_read_at_each_use(&self) -> bool {
        let is_credential = self.spec.kind.secret && self.spec.is_of("VAULT_");
        is_credential && matches!(self.origin, Origin::File(_))
    }

    /// Whether `new` differs only in what is taken live.
    fn lasts_in(&self, new: &Self) -> bool {
        let lasting = |entry: &Self| (entry.spec.kind.lasting)(entry.text.expose_secret());
        lasting(self) == lasting(new)
    }

    fn found(&self) -> (String, Found) {
        let found = Found {
            text: self.text.expose_secret().to_owned().into(),
            origin: self.origin.clone(),
        };
        (self.key.clone(), found)
    }
}
