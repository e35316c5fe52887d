//! The description of a key and of a group of keys, without their values.
//!
//! [`settings!`](crate::settings!) makes these tables. They serve the detection of unknown keys, the
//! command `config`, reloading and the generated documentation.

use std::fmt;

use serde::de::DeserializeOwned;

use super::declare::{DefaultText, Fallback, Range};
use super::rules::Rules;
use super::value::{Invalid, Setting};

/// The prefix of every key.
pub(crate) const PREFIX: &str = "DOTMAC_";

/// All about one key but its value. Each method is a property that may stand in the braces behind a field of
/// [`settings!`](crate::settings!), as `live: true`.
#[derive(Debug, Clone, Copy)]
pub struct KeySpec {
    /// Name of the group in the key, `HTTP_`; empty for the application's own.
    prefix: &'static str,
    /// Name of the field, `body_limit`.
    pub(crate) field: &'static str,
    doc: &'static str,
    pub(crate) default: DefaultText,
    pub(crate) fallbacks: &'static [Fallback],
    pub(crate) fallbacks_yield_to: &'static [&'static str],
    range: Option<Range>,
    pub(crate) vault: Option<&'static str>,
    pub(crate) live: bool,
    pub(crate) optional: bool,
    pub(crate) guessable: bool,
    /// The facts of the field's type.
    pub(crate) kind: Kind,
}

/// The functions of a [`Setting`] type, with the type erased.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) example: &'static str,
    pub(crate) values: &'static [&'static str],
    pub(crate) secret: bool,
    pub(crate) followed: bool,
    pub(crate) shown: fn(&str) -> Option<String>,
    pub(crate) lasting: fn(&str) -> String,
    expected: fn() -> String,
    check: fn(&str) -> Result<(), Invalid>,
}

/// The title of a group of keys, what is said of it, and its keys.
#[derive(Debug)]
pub struct GroupSpec {
    pub(crate) title: &'static str,
    pub(crate) prefix: &'static str,
    doc: &'static str,
    pub(crate) keys: &'static [KeySpec],
}

/// A struct of settings, made by [`settings!`](crate::settings!).
pub trait Group: DeserializeOwned + Clone + fmt::Debug + Send + Sync + 'static {
    /// Its keys.
    const SPEC: &'static GroupSpec;

    /// Reports what does not fit together, once each value is right by itself. [`settings!`](crate::settings!)
    /// fills it with the function after `rules:`.
    fn rules(&self, rules: &mut Rules<'_>) {
        let _ = rules;
    }
}

/// The settings of a module that has none but `DOTMAC_<NAME>_ENABLED`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
pub struct NoSettings {}

impl Group for NoSettings {
    const SPEC: &'static GroupSpec = &GroupSpec::new("", "", "", &[]);
}

impl KeySpec {
    /// A key of type `T` without a default or anything else out of the ordinary: `field` of the group whose
    /// keys begin with `prefix`.
    #[must_use]
    pub const fn of<T: Setting>(
        prefix: &'static str,
        field: &'static str,
        doc: &'static str,
    ) -> Self {
        Self {
            prefix,
            field,
            doc,
            default: DefaultText::Unset,
            fallbacks: &[],
            fallbacks_yield_to: &[],
            range: None,
            vault: None,
            live: T::FOLLOWED,
            optional: false,
            guessable: false,
            kind: Kind {
                example: T::EXAMPLE,
                values: T::VALUES,
                secret: T::SECRET,
                followed: T::FOLLOWED,
                expected: T::expected,
                shown: T::shown,
                lasting: T::lasting,
                check: |text| T::parse(text).map(drop),
            },
        }
    }

    /// The value of an unset key: [`fixed`](super::declare::fixed) or
    /// [`computed`](super::declare::computed). A key without a default must be set, unless its type is an
    /// `Option`, a list or a secret.
    #[must_use]
    pub const fn default(mut self, default: DefaultText) -> Self {
        self.default = default;
        self
    }

    /// Bounds, both inclusive: [`between`](super::declare::between), [`lasting`](super::declare::lasting) or
    /// [`sized`](super::declare::sized).
    #[must_use]
    pub const fn range(mut self, range: Range) -> Self {
        self.range = Some(range);
        self
    }

    /// Variables without our prefix that count while the own key is not set; the first that is set wins.
    #[must_use]
    pub const fn fallbacks(mut self, fallbacks: &'static [Fallback]) -> Self {
        self.fallbacks = fallbacks;
        self
    }

    /// Fields of the same group that, once set, make the fallbacks void.
    #[must_use]
    pub const fn fallbacks_yield_to(mut self, fields: &'static [&'static str]) -> Self {
        self.fallbacks_yield_to = fields;
        self
    }

    /// The path in Vault of the secret, if Vault is enabled and the key is not set: a path such as
    /// `notes/signing_key`, whose field is `value` or the only one.
    #[must_use]
    pub const fn vault(mut self, path: &'static str) -> Self {
        self.vault = Some(path);
        self
    }

    /// Whether a reload applies a change; else it needs a restart. Needs a function that applies it. A
    /// [`SecretSetting`](crate::settings::SecretSetting) needs neither: it is live, and followed by its key.
    #[must_use]
    pub const fn live(mut self, live: bool) -> Self {
        self.live = live;
        self
    }

    /// Whether a secret may be missing. One that may not is refused in production and warned of elsewhere.
    #[must_use]
    pub const fn optional(mut self, optional: bool) -> Self {
        self.optional = optional;
        self
    }

    /// Whether a secret may be short or well known in production, as the name of a user may.
    #[must_use]
    pub const fn guessable(mut self, guessable: bool) -> Self {
        self.guessable = guessable;
        self
    }

    /// The full name, `DOTMAC_HTTP_BODY_LIMIT`.
    #[must_use]
    pub fn key(&self) -> String {
        self.sibling(self.field)
    }

    /// The full name of another field of the same group.
    pub(crate) fn sibling(&self, field: &str) -> String {
        full_name(self.prefix, field)
    }

    /// Whether the key belongs to the group whose keys begin with `prefix`.
    pub(crate) fn is_of(&self, prefix: &str) -> bool {
        self.prefix == prefix
    }

    /// Whether the program cannot go on without a value.
    pub(crate) fn is_required(&self) -> bool {
        matches!(self.default, DefaultText::Unset) && (self.kind.check)("").is_err()
    }

    /// Whether the documentation says that it must be given: a value without which the program does not start,
    /// or a secret.
    pub(crate) fn is_needed(&self) -> bool {
        self.is_required() || (self.kind.followed && !self.optional)
    }

    /// The description of a valid value, bounds included.
    pub(crate) fn expected(&self) -> String {
        let expected = (self.kind.expected)();
        match &self.range {
            Some(Range { least, most, .. }) => format!("{expected} from {least} to {most}"),
            None => expected,
        }
    }

    /// An example of a valid value, for the message about a wrong one.
    pub(crate) fn example(&self) -> &'static str {
        match self.default {
            DefaultText::Fixed(text) if !text.is_empty() => text,
            _ => self.kind.example,
        }
    }

    /// Whether `text` is a right value.
    pub(crate) fn check(&self, text: &str) -> Result<(), Invalid> {
        (self.kind.check)(text)?;
        match &self.range {
            Some(range) if !range.holds(text) => Err(Invalid::plain()),
            _ => Ok(()),
        }
    }

    /// `text` as it may be shown: secrets and passwords replaced.
    pub(crate) fn shown(&self, text: &str) -> String {
        (self.kind.shown)(text).unwrap_or_else(|| "[redacted]".to_owned())
    }

    /// The doc comment without the indentation that comes with `///`.
    pub(crate) fn doc(&self) -> String {
        unindented(self.doc)
    }
}

impl GroupSpec {
    /// A group whose keys begin with `DOTMAC_` and `prefix`. [`settings!`](crate::settings!) calls it.
    #[must_use]
    pub const fn new(
        title: &'static str,
        prefix: &'static str,
        doc: &'static str,
        keys: &'static [KeySpec],
    ) -> Self {
        Self {
            title,
            prefix,
            doc,
            keys,
        }
    }

    /// The key of `field`, if the group has one.
    pub(crate) fn key(&self, field: &str) -> Option<&'static KeySpec> {
        self.keys.iter().find(|key| key.field == field)
    }

    pub(crate) fn doc(&self) -> String {
        unindented(self.doc)
    }
}

/// The key of `field` in the group `prefix`, which may be written with or without the `_` at its end.
pub(crate) fn full_name(prefix: &str, field: &str) -> String {
    let group = prefix.trim_end_matches('_');
    let name = if group.is_empty() {
        format!("{PREFIX}{field}")
    } else {
        format!("{PREFIX}{group}_{field}")
    };
    name.to_ascii_uppercase()
}

fn unindented(doc: &str) -> String {
    doc.lines()
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(" ")
        .trim()
        .to_owned()
}
