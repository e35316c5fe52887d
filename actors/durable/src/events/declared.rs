//! Which module emits which types, as the manifests of a program say.
//!
//! What a module emits without having declared it would be in no documentation and have no schema, so it is refused where
//! it is emitted. Work of a module that is part of no program, as in a test of its store, may emit anything.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

/// The types of each module that has declared what it emits.
static DECLARED: RwLock<BTreeMap<&'static str, Vec<&'static str>>> = RwLock::new(BTreeMap::new());

/// Says that `module` emits events of these types, and of no others. Further types are added to them.
pub fn declare(module: &'static str, kinds: impl IntoIterator<Item = &'static str>) {
    let mut declared = DECLARED.write().unwrap_or_else(PoisonError::into_inner);
    declared.entry(module).or_default().extend(kinds);
}

/// The module whose work must not emit events of type `kind`; `None` if it may.
pub(super) fn undeclared_by(module: Option<&'static str>, kind: &str) -> Option<&'static str> {
    let module = module?;
    let declared = DECLARED.read().unwrap_or_else(PoisonError::into_inner);
    let is_missing = !declared.get(module)?.contains(&kind);
    is_missing.then_some(module)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_emits_what_it_declares_and_one_that_declares_nothing_anything() {
        declare("declaring", ["note.added.v1"]);
        declare("declaring", ["note.deleted.v1"]);
        declare("silent", []);
        for (module, kind, refused) in [
            (Some("declaring"), "note.added.v1", None),
            (Some("declaring"), "note.deleted.v1", None),
            (Some("declaring"), "note.added.v2", Some("declaring")),
            (Some("silent"), "note.added.v1", Some("silent")),
            (Some("stranger"), "note.added.v1", None),
            (None, "note.added.v1", None),
        ] {
            assert_eq!(undeclared_by(module, kind), refused, "{module:?} {kind}");
        }
    }
}
