//! What modules write, as the manifests of a program say: which types of events, which acts, which kinds of jobs.
//!
//! What a module writes without having declared it would be in no documentation, so it is refused where it is written.
//! Work of a module that is part of no program, as in a test of its store, may write anything.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

/// The names that each module has declared.
pub(crate) struct Declared(RwLock<BTreeMap<&'static str, Vec<&'static str>>>);

impl Declared {
    pub(crate) const fn new() -> Self {
        Self(RwLock::new(BTreeMap::new()))
    }

    /// Says that `module` writes these and no others. Further ones are added to them.
    pub(crate) fn add(&self, module: &'static str, names: impl IntoIterator<Item = &'static str>) {
        let mut declared = self.0.write().unwrap_or_else(PoisonError::into_inner);
        declared.entry(module).or_default().extend(names);
    }

    /// The module whose work must not write `name`; `None` if it may.
    pub(crate) fn undeclared_by(
        &self,
        module: Option<&'static str>,
        name: &str,
    ) -> Option<&'static str> {
        let module = module?;
        let declared = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let is_missing = !declared.get(module)?.contains(&name);
        is_missing.then_some(module)
    }

    /// The module whose work must not use `name`, since neither it nor another has declared it; `None` if it may.
    pub(crate) fn unlisted_by(
        &self,
        module: Option<&'static str>,
        name: &str,
    ) -> Option<&'static str> {
        let module = module?;
        let declared = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let is_of_program = declared.contains_key(module);
        let is_listed = declared.values().any(|names| names.contains(&name));
        (is_of_program && !is_listed).then_some(module)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_writes_what_it_declares_and_one_that_declares_nothing_anything() {
        let declared = Declared::new();
        declared.add("declaring", ["note.added.v1"]);
        declared.add("declaring", ["note.deleted.v1"]);
        declared.add("silent", []);
        for (module, name, refused) in [
            (Some("silent"), "note.added.v1", None),
            (Some("silent"), "note.added.v2", Some("silent")),
            (Some("stranger"), "note.added.v2", None),
            (None, "note.added.v2", None),
        ] {
            assert_eq!(
                declared.unlisted_by(module, name),
                refused,
                "{module:?} {name}"
            );
        }
        for (module, name, refused) in [
            (Some("declaring"), "note.added.v1", None),
            (Some("declaring"), "note.deleted.v1", None),
            (Some("declaring"), "note.added.v2", Some("declaring")),
            (Some("silent"), "note.added.v1", Some("silent")),
            (Some("stranger"), "note.added.v1", None),
            (None, "note.added.v1", None),
        ] {
            assert_eq!(
                declared.undeclared_by(module, name),
                refused,
                "{module:?} {name}"
            );
        }
    }
}
