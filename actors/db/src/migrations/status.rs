//! Applied and pending migrations of a schema, by owner.

use std::collections::BTreeMap;

use super::owners::join;
use crate::OpenError;

/// Pending and applied migrations of a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Those that this program has, in the order in which their migrations run; then those that only the database
    /// knows, by name.
    pub owners: Vec<OwnerStatus>,
}

/// The migrations of one owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnerStatus {
    /// The owner.
    pub owner: String,
    /// Whether the program has none of its migrations. Its tables are left alone.
    pub is_absent: bool,
    /// Versions that ran, oldest first.
    pub applied: Vec<String>,
    /// Names of all that this program has, by version.
    pub names: BTreeMap<String, String>,
    /// Names of those that did not, in the order in which they would.
    pub pending: Vec<String>,
    /// Versions that ran and that this program does not know: the schema is newer than it.
    pub unknown: Vec<String>,
    /// Those of `unknown` that are not marked as compatible with programs that do not know them.
    pub incompatible: Vec<String>,
}

impl Status {
    /// The migrations of `owner`, if any.
    #[must_use]
    pub fn of(&self, owner: &str) -> Option<&OwnerStatus> {
        self.owners.iter().find(|it| it.owner == owner)
    }

    /// All that ran, those of others than the platform as `owner/version`.
    #[must_use]
    pub fn applied(&self) -> Vec<String> {
        self.listed(|owner| &owner.applied)
    }

    /// All that did not run, in the order in which they would; those of others than the platform as `owner/name`.
    #[must_use]
    pub fn pending(&self) -> Vec<String> {
        self.listed(|owner| &owner.pending)
    }

    /// All that this program does not know, of owners that it has.
    #[must_use]
    pub fn unknown(&self) -> Vec<String> {
        self.listed(|owner| &owner.unknown)
    }

    /// Whether this program may use the schema, or bring it up to date.
    ///
    /// # Errors
    ///
    /// [`OpenError::SchemaNewer`], with the way out.
    pub fn suits(&self) -> Result<(), OpenError> {
        let newer = || self.owners.iter().filter(|it| !it.incompatible.is_empty());
        if newer().next().is_none() {
            return Ok(());
        }
        let take_back = newer().map(|it| {
            // The newest are taken back first, whichever of them are the ones.
            let first = it
                .applied
                .iter()
                .position(|version| it.incompatible.contains(version));
            let steps = it.applied.len() - first.unwrap_or_default();
            format!("`migrate down --owner {} --steps {steps}`", it.owner)
        });
        Err(OpenError::SchemaNewer {
            versions: self.listed(|owner| &owner.incompatible).join(", "),
            take_back: take_back.collect::<Vec<_>>().join(", "),
        })
    }

    /// The newest `steps` versions that ran of `owner`, the newest first; those of others than the platform as
    /// `owner/version`.
    ///
    /// # Errors
    ///
    /// [`OpenError::NotTakenBack`] if there is no such owner.
    pub fn newest(&self, owner: &str, steps: u32) -> Result<Vec<String>, OpenError> {
        let Some(of) = self.of(owner) else {
            let owners = self.owners.iter().map(|it| format!("`{}`", it.owner));
            let owners = owners.collect::<Vec<_>>().join(", ");
            let why = format!("`{owner:.100}` owns no migrations here; the owners are {owners}");
            return Err(OpenError::NotTakenBack(why));
        };
        let newest = of.applied.iter().rev().take(steps as usize);
        Ok(newest.map(|version| join(owner, version)).collect())
    }

    fn listed(&self, of: impl Fn(&OwnerStatus) -> &Vec<String>) -> Vec<String> {
        let listed = self.owners.iter().flat_map(|owner| {
            let names = of(owner).iter();
            names.map(|name| join(&owner.owner, name))
        });
        listed.collect()
    }
}
