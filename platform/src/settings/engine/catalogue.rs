//! Which groups of keys a program has.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::declare::fixed;
use super::group::{Group, GroupSpec, KeySpec, PREFIX};
use super::load;
use super::rules::Rules;
use super::source::Found;
use crate::settings::groups;

/// The field of the key that switches a module off. No other key of a module can have that name.
pub(crate) const ENABLED: &str = "enabled";

/// The full name of the key that switches a module off: `DOTMAC_<NAME>_ENABLED`.
pub(crate) fn enabled_key(module: &str) -> String {
    format!("{PREFIX}{module}_{ENABLED}").to_ascii_uppercase()
}

/// Every group of keys of a program, in the order of the documentation: those of the platform, then one for
/// each module. Loading, the detection of unknown keys, `config`, reloads and the documentation follow it.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    modules: Vec<ModuleGroup>,
    /// The default of `DOTMAC_APP_NAME` in this program.
    app_name: Option<&'static str>,
}

/// The settings of one module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ModuleGroup {
    pub(crate) name: &'static str,
    pub(crate) spec: &'static GroupSpec,
    /// `DOTMAC_<NAME>_ENABLED`.
    pub(crate) enabled: KeySpec,
    pub(crate) reader: &'static dyn ReadGroup,
}

/// A key, and the module whose it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CatalogueKey {
    pub(crate) spec: KeySpec,
    pub(crate) module: Option<&'static str>,
}

/// Fills the struct of a group, with its type erased.
pub(crate) trait ReadGroup: fmt::Debug + Send + Sync {
    fn read(&self, texts: &BTreeMap<String, Found>) -> Option<Arc<dyn Filled>>;
}

/// The filled struct of a group, with its type erased.
pub(crate) trait Filled: Any + fmt::Debug + Send + Sync {
    fn check(&self, rules: &mut Rules<'_>);
}

impl<G: Group> Filled for G {
    fn check(&self, rules: &mut Rules<'_>) {
        self.rules(rules);
    }
}

struct Reader<G>(PhantomData<fn() -> G>);

impl<G> fmt::Debug for Reader<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

impl<G: Group> ReadGroup for Reader<G> {
    fn read(&self, texts: &BTreeMap<String, Found>) -> Option<Arc<dyn Filled>> {
        Some(Arc::new(load::read::<G>(texts)?))
    }
}

/// Why a module's settings cannot be taken into a catalogue: a mistake of the program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogueError {
    /// Not a name for a module.
    #[error(
        "`{name}` cannot be the name of a module: write 2 to 32 of the characters a-z, 0-9 and _, the first a letter"
    )]
    Name {
        /// The name.
        name: &'static str,
    },
    /// Two modules of one name.
    #[error("two modules are named `{name}`: rename one of them")]
    Duplicate {
        /// The name.
        name: &'static str,
    },
    /// The keys of a module do not begin with its name.
    #[error(
        "the settings of the module `{module}` have the prefix `{prefix}`, which is not its name: write `{expected}`"
    )]
    Prefix {
        /// The module.
        module: &'static str,
        /// The prefix of its group.
        prefix: &'static str,
        /// The prefix that it should have.
        expected: String,
    },
    /// The key of a module is one of another group.
    #[error(
        "the key {key} of the module `{module}` exists already: rename the module or the field"
    )]
    Key {
        /// The module.
        module: &'static str,
        /// The key.
        key: String,
    },
    /// The key looks like one that names a file.
    #[error(
        "the key {key} of the module `{module}` ends with _FILE, which names the file that another key is read from: rename the field"
    )]
    FileTwin {
        /// The module.
        module: &'static str,
        /// The key.
        key: String,
    },
    /// A secret that is no [`SecretSetting`](crate::settings::SecretSetting).
    #[error(
        "the key {key} of the module `{module}` is a secret of a type that can neither come from Vault nor be followed: declare it as `SecretSetting`, with `optional: true` if it may be missing"
    )]
    SecretType {
        /// The module.
        module: &'static str,
        /// The key.
        key: String,
    },
    /// A default that is no value of its type, or out of its bounds.
    #[error(
        "the default of the key {key} of the module `{module}` is not {expected}: mend the declaration"
    )]
    Default {
        /// The module.
        module: &'static str,
        /// The key.
        key: String,
        /// The expected form.
        expected: String,
    },
}

impl Catalogue {
    /// The groups of the platform alone.
    #[must_use]
    pub fn platform() -> Self {
        Self::default()
    }

    /// The same with `name` as the default of `DOTMAC_APP_NAME`.
    #[must_use]
    pub fn app_name(mut self, name: &'static str) -> Self {
        self.app_name = Some(name);
        self
    }

    pub(crate) fn default_app_name(&self) -> &'static str {
        self.app_name.unwrap_or(groups::APP_NAME)
    }

    /// Adds the settings `G` of the module `name`, and the key that switches it off.
    ///
    /// # Errors
    ///
    /// [`CatalogueError`] if a declaration is wrong or two do not fit together; nothing is added then.
    pub fn add<G: Group>(&mut self, name: &'static str) -> Result<(), CatalogueError> {
        if !is_name(name) {
            return Err(CatalogueError::Name { name });
        }
        if self.modules.iter().any(|module| module.name == name) {
            return Err(CatalogueError::Duplicate { name });
        }
        let module = ModuleGroup {
            name,
            spec: G::SPEC,
            enabled: KeySpec::of::<bool>(
                name,
                ENABLED,
                "Whether the module runs. With `false` it has no routes, actors and workers; its tables stay, and its \
                other keys have no effect.",
            )
            .default(fixed("true")),
            reader: &Reader::<G>(PhantomData),
        };
        let expected = format!("{}_", name.to_ascii_uppercase());
        let prefix = G::SPEC.prefix;
        let is_taken = groups::ALL.iter().any(|group| group.prefix == expected);
        if is_taken {
            let key = module.enabled.key();
            return Err(CatalogueError::Key { module: name, key });
        }
        if prefix != expected && !G::SPEC.keys.is_empty() {
            return Err(CatalogueError::Prefix {
                module: name,
                prefix,
                expected,
            });
        }
        let mut known: BTreeSet<String> = self.keys().map(|key| key.spec.key()).collect();
        for spec in module.keys() {
            sound(name, &spec)?;
            let key = spec.key();
            if !known.insert(key.clone()) {
                return Err(CatalogueError::Key { module: name, key });
            }
        }
        self.modules.push(module);
        Ok(())
    }

    /// The names of the modules, in the order in which they were added.
    pub fn modules(&self) -> impl Iterator<Item = &'static str> {
        self.modules.iter().map(|module| module.name)
    }

    pub(crate) fn module_groups(&self) -> &[ModuleGroup] {
        &self.modules
    }

    /// All keys, in the order of the documentation.
    pub(crate) fn keys(&self) -> impl Iterator<Item = CatalogueKey> {
        let groups = groups::ALL.into_iter();
        let own = groups.flat_map(|group| self.own_keys(group));
        let own = own.map(|spec| CatalogueKey { spec, module: None });
        let of_modules = self.modules.iter().flat_map(|module| {
            module.keys().map(|spec| CatalogueKey {
                spec,
                module: Some(module.name),
            })
        });
        own.chain(of_modules)
    }

    /// The keys of a group of the platform, with the defaults that they have in this program.
    pub(crate) fn own_keys(
        &self,
        group: &'static GroupSpec,
    ) -> impl Iterator<Item = KeySpec> + use<> {
        let app_name = self.app_name;
        group.keys.iter().map(move |spec| match app_name {
            Some(name) if spec.is_of("") && spec.field == "app_name" => spec.default(fixed(name)),
            _ => *spec,
        })
    }
}

impl ModuleGroup {
    /// The key that switches the module off, and its others.
    pub(crate) fn keys(&self) -> impl Iterator<Item = KeySpec> + use<> {
        std::iter::once(self.enabled).chain(self.spec.keys.iter().copied())
    }

    /// The title of its part of the documentation.
    pub(crate) fn title(&self) -> &'static str {
        match self.spec.title {
            "" => self.name,
            title => title,
        }
    }
}

fn is_name(name: &str) -> bool {
    let is_rest = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'_';
    (2..=32).contains(&name.len())
        && name.starts_with(|it: char| it.is_ascii_lowercase())
        && name.bytes().all(is_rest)
        && !name.ends_with('_')
}

/// Whether a declaration can work.
fn sound(module: &'static str, spec: &KeySpec) -> Result<(), CatalogueError> {
    let key = spec.key();
    if key.ends_with("_FILE") {
        return Err(CatalogueError::FileTwin { module, key });
    }
    if spec.kind.secret && !spec.kind.followed {
        return Err(CatalogueError::SecretType { module, key });
    }
    match spec.default {
        super::declare::DefaultText::Fixed(text) if spec.check(text).is_err() => {
            Err(CatalogueError::Default {
                module,
                key,
                expected: spec.expected(),
            })
        }
        _ => Ok(()),
    }
}
