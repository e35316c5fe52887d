//! Rules between the keys of a group, each of which is valid by itself.

use std::collections::BTreeSet;

use super::error::{Mistake, Origin};
use super::group::{GroupSpec, PREFIX, full_name};
use crate::settings::Entry;
use crate::settings::types::{Environment, SecretSetting};

/// Reports what does not fit together, all of it at once. A rule about a key that is wrong by itself is left
/// out, since the default stands in the place of what the operator meant.
#[derive(Debug)]
pub struct Rules<'a> {
    /// `None` for the rules of the platform, which go across its groups.
    group: Option<&'static GroupSpec>,
    circumstances: &'a RuleInput<'a>,
    findings: &'a mut Findings,
}

/// The input of rules.
#[derive(Debug)]
pub(crate) struct RuleInput<'a> {
    pub(crate) entries: &'a [Entry],
    /// Full names of the keys that are wrong by themselves.
    pub(crate) wrong: &'a BTreeSet<String>,
    pub(crate) environment: Environment,
    pub(crate) vault_enabled: bool,
}

/// The result of all rules.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) mistakes: Vec<Mistake>,
    /// Findings that are only warnings outside production.
    pub(crate) warnings: Vec<Mistake>,
    /// Secrets that must be there, by full key.
    pub(crate) needed: BTreeSet<String>,
}

impl<'a> Rules<'a> {
    pub(crate) fn new(
        group: Option<&'static GroupSpec>,
        circumstances: &'a RuleInput<'a>,
        findings: &'a mut Findings,
    ) -> Self {
        Self {
            group,
            circumstances,
            findings,
        }
    }

    /// Whether this is a production, where what is unsafe is refused.
    #[must_use]
    pub fn in_production(&self) -> bool {
        self.circumstances.environment == Environment::Production
    }

    /// Whether `field` of the group is set.
    #[must_use]
    pub fn is_given(&self, field: &str) -> bool {
        self.origin(&self.key(field)) != Origin::Default
    }

    /// If `broken` holds, reports `problem` and `remedy` under the first of `fields`, the names of the fields
    /// that take part in the rule.
    ///
    /// Neither text may hold the value of a secret. They follow the key, as "…: `problem`; `remedy`".
    pub fn refuse(
        &mut self,
        broken: bool,
        fields: &[&str],
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.check_names(fields);
        let keys: Vec<String> = fields.iter().map(|field| self.key(field)).collect();
        if !broken
            || keys
                .iter()
                .any(|key| self.circumstances.wrong.contains(key))
        {
            return;
        }
        if let Some(key) = keys.into_iter().next() {
            let mistake = self.mistake(key, problem, remedy);
            self.findings.mistakes.push(mistake);
        }
    }

    /// Says that `secret` must be there, for the reason `why`, as in "DOTMAC_FILES_PROVIDER=s3 needs it". If
    /// it is not set, that is a mistake in production and a warning elsewhere. Only for secrets that are
    /// `optional`; the others are needed anyway.
    pub fn need(&mut self, secret: &SecretSetting, why: impl Into<String>) {
        let mut entries = self.circumstances.entries.iter();
        if let Some(entry) = entries.find(|entry| entry.key == secret.key()) {
            self.need_entry(entry, why);
        }
    }

    /// [`need`](Self::need) for the secret of `entry`.
    pub(crate) fn need_entry(&mut self, entry: &Entry, why: impl Into<String>) {
        if self.circumstances.wrong.contains(&entry.key) {
            return;
        }
        let path = entry.spec.vault;
        let in_vault = path.is_some() && self.circumstances.vault_enabled;
        if !entry.is_set() && !in_vault {
            let remedy = match path {
                Some(path) => {
                    format!(
                        "set it or its _FILE twin, or enable Vault and put it at `{path}` there"
                    )
                }
                None => "set it or its _FILE twin, with Vault also to vault:PATH#FIELD".to_owned(),
            };
            let mistake = self.mistake(entry.key.clone(), why, remedy);
            if self.in_production() {
                self.findings.mistakes.push(mistake);
            } else {
                self.findings.warnings.push(mistake);
            }
        }
        self.findings.needed.insert(entry.key.clone());
    }

    /// Whether no rule has found a mistake so far.
    pub(crate) fn is_clean(&self) -> bool {
        self.findings.mistakes.is_empty()
    }

    fn mistake(
        &self,
        key: String,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Mistake {
        let origin = Some(self.origin(&key)).filter(|it| *it != Origin::Default);
        Mistake::new(key, origin, problem, remedy)
    }

    fn origin(&self, key: &str) -> Origin {
        let mut entries = self.circumstances.entries.iter();
        let entry = entries.find(|entry| entry.key == key);
        entry.map_or(Origin::Default, |entry| entry.origin.clone())
    }

    fn key(&self, field: &str) -> String {
        match self.group {
            Some(group) => full_name(group.prefix, field),
            None => format!("{PREFIX}{field}"),
        }
    }

    /// A rule about a field that does not exist would be taken for one that holds.
    fn check_names(&mut self, fields: &[&str]) {
        let Some(group) = self.group else {
            return;
        };
        for field in fields.iter().filter(|field| group.key(field).is_none()) {
            let key = full_name(group.prefix, field);
            let problem =
                format!("a rule of the program names `{field}`, and there is no such field");
            self.findings
                .mistakes
                .push(Mistake::new(key, None, problem, "mend the rule"));
        }
    }
}
