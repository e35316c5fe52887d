//! The audit log of a program before it runs: the acts that its modules record.

use std::sync::Arc;

use dotmac_durable::audit::is_name;

/// An act that a module records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditedAct {
    name: &'static str,
    description: &'static str,
}

impl AuditedAct {
    /// `name` is a word of the OWASP logging vocabulary (`authz_change`) or one like it (`note_delete`), `description` says in
    /// a sentence what was done. A name that is none does not compile in a constant.
    ///
    /// # Panics
    ///
    /// Outside of constants, for a name that is none.
    #[must_use]
    pub const fn new(name: &'static str, description: &'static str) -> Self {
        assert!(
            is_name(name),
            "the name of an act has 1 to 64 lower-case letters, digits, `_` and `.`, a letter first"
        );
        Self { name, description }
    }

    /// Its name, which entries have.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The act.
    #[must_use]
    pub const fn description(&self) -> &'static str {
        self.description
    }
}

/// The acts that the modules of a program record. Clones are the same.
#[derive(Clone, Default)]
pub struct AuditCatalogue(Arc<[(&'static str, AuditedAct)]>);

impl AuditCatalogue {
    /// With the acts of each module. Several modules may record acts of one name.
    pub(crate) fn new<'m>(
        modules: impl IntoIterator<Item = (&'static str, &'m [AuditedAct])>,
    ) -> Self {
        let of_module =
            |(module, acts): (_, &'m [AuditedAct])| acts.iter().map(move |it| (module, *it));
        let mut acts: Vec<_> = modules.into_iter().flat_map(of_module).collect();
        acts.sort_by_key(|(module, act)| (act.name, *module));
        Self(acts.into())
    }

    /// Each act of a module that is switched on with the module, by name.
    #[must_use]
    pub fn acts(&self) -> &[(&'static str, AuditedAct)] {
        &self.0
    }

    /// Whether a module records acts.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
