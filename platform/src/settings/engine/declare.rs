//! How a group of keys is declared: [`settings!`](crate::settings!), and what may stand in its braces.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::facts::Facts;
use super::group::Group;
use super::value::Setting;
use crate::settings::types::ByteSize;

/// The prefix of the standard's variables about the export.
const OTLP: &str = "OTEL_EXPORTER_OTLP_";

/// The text of an unset key, read by the same parser as an operator's text.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum DefaultText {
    /// Not set means not set.
    Unset,
    /// Always the same.
    Fixed(&'static str),
    /// Depends on other settings or on the machine; an empty text means not set.
    Computed {
        /// Its documentation.
        described: &'static str,
        /// The text.
        text: fn(&Facts<'_>) -> String,
    },
}

/// A variable of the wider world that stands in for a key of ours.
#[derive(Debug, Clone, Copy)]
pub struct Fallback {
    pub(crate) name: &'static str,
    /// From its notation into ours.
    pub(crate) translate: fn(&str) -> String,
    /// The variable without which this one says nothing.
    pub(crate) argument_of: Option<&'static str>,
}

/// Bounds as an operator would write them, both inclusive.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    pub(crate) least: &'static str,
    pub(crate) most: &'static str,
    holds: fn(&Range, &str) -> bool,
}

impl Range {
    pub(crate) fn holds(&self, text: &str) -> bool {
        (self.holds)(self, text)
    }
}

/// A signal of telemetry, for which the standard has variables of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TelemetrySignal {
    Traces,
    Metrics,
    Logs,
}

impl TelemetrySignal {
    pub(crate) const ALL: [Self; 3] = [Self::Traces, Self::Metrics, Self::Logs];

    const fn name(self) -> &'static str {
        match self {
            Self::Traces => "TRACES",
            Self::Metrics => "METRICS",
            Self::Logs => "LOGS",
        }
    }
}

impl Fallback {
    /// The variable that stands in for this one where `signal` is concerned:
    /// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` for `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub(crate) fn name_for(&self, signal: TelemetrySignal) -> Option<String> {
        let rest = self.name.strip_prefix(OTLP)?;
        Some(format!("{OTLP}{}_{rest}", signal.name()))
    }
}

/// A default that is always the same, as an operator would write it.
#[must_use]
pub const fn fixed(text: &'static str) -> DefaultText {
    DefaultText::Fixed(text)
}

/// A default that depends on [`Facts`]; `described` is what the documentation says of it. An empty text means
/// not set.
#[must_use]
pub const fn computed(described: &'static str, text: fn(&Facts<'_>) -> String) -> DefaultText {
    DefaultText::Computed { described, text }
}

/// A fallback written in the same notation as our key.
#[must_use]
pub const fn fallback(name: &'static str) -> Fallback {
    translated(name, str::to_owned)
}

/// A fallback that counts only where the variable `of` is set too.
#[must_use]
pub const fn argument(name: &'static str, of: &'static str) -> Fallback {
    Fallback {
        argument_of: Some(of),
        ..fallback(name)
    }
}

/// A fallback with its own notation. What cannot be translated stays as it is and is then refused like
/// any wrong value; an empty text says nothing about the key.
#[must_use]
pub const fn translated(name: &'static str, translate: fn(&str) -> String) -> Fallback {
    Fallback {
        name,
        translate,
        argument_of: None,
    }
}

/// Bounds for a value of type `T`, both inclusive.
#[must_use]
pub const fn between<T: Setting + PartialOrd>(least: &'static str, most: &'static str) -> Range {
    Range {
        least,
        most,
        holds: |range, text| match (T::parse(range.least), T::parse(text), T::parse(range.most)) {
            (Ok(least), Ok(value), Ok(most)) => least <= value && value <= most,
            _ => false,
        },
    }
}

/// [`between`] for durations.
#[must_use]
pub const fn lasting(least: &'static str, most: &'static str) -> Range {
    between::<Duration>(least, most)
}

/// [`between`] for sizes.
#[must_use]
pub const fn sized(least: &'static str, most: &'static str) -> Range {
    between::<ByteSize>(least, most)
}

/// Re-exports that [`settings!`](crate::settings!) needs in the calling crate.
#[doc(hidden)]
pub mod macro_support {
    pub use super::Texts;
    pub use serde::{Deserialize, Deserializer};
}

/// The text of each field of a group, as they come from the environment.
#[doc(hidden)]
#[derive(Debug)]
pub struct Texts(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(input).map(Self)
    }
}

impl Texts {
    /// The value of `field` of the group `G`.
    ///
    /// # Errors
    ///
    /// If its text is not one of type `T`. The error does not hold the text, which may be a secret.
    pub fn value<G: Group, T: Setting, E: serde::de::Error>(&self, field: &str) -> Result<T, E> {
        let text = self.0.get(field).map_or("", String::as_str);
        let value = T::parse(text).map_err(|_| E::custom(format_args!("not {}", T::expected())))?;
        Ok(match G::SPEC.key(field) {
            Some(spec) => value.of_key(spec),
            None => value,
        })
    }
}

/// Declares a group of settings: its title, its prefix, and for each key the doc comment that operators read,
/// the name, the type, and in braces what is out of the ordinary: the methods of
/// [`KeySpec`](crate::settings::KeySpec).
///
/// The platform's own groups are declared by it, and so are those of a module. From the declaration come the
/// struct, the detection of unknown keys, `config`, reloads and the generated documentation. The key of
/// `page_size` in a group with the prefix `NOTES_` is `DOTMAC_NOTES_PAGE_SIZE`; it may be given in the
/// environment, in `.env`, by `DOTMAC_NOTES_PAGE_SIZE_FILE`, and if it is a secret by `vault:PATH#FIELD`.
///
/// ```
/// use std::time::Duration;
/// use dotmac_platform::settings::{
///     Catalogue, Rules, SecretSetting, Settings, Sources, between, fixed, lasting,
/// };
///
/// dotmac_platform::settings! {
///     title: "Notes", prefix: "NOTES_", rules: NotesSettings::rules;
///     /// Short texts with tags.
///     pub struct NotesSettings {
///         /// Notes on a page at most.
///         page_size: u32 { default: fixed("50"), range: between::<u32>("1", "200"), live: true }
///
///         /// How long a deleted note can be restored.
///         keep: Duration { default: fixed("30d"), range: lasting("1m", "365d") }
///
///         /// How often deleted notes are removed for good.
///         sweep_interval: Duration { default: fixed("10m"), range: lasting("1s", "1d") }
///
///         /// Signs the links to shared notes.
///         signing_key: SecretSetting { vault: "notes/signing_key" }
///     }
/// }
///
/// impl NotesSettings {
///     fn rules(&self, rules: &mut Rules<'_>) {
///         rules.refuse(
///             self.sweep_interval > self.keep,
///             &["sweep_interval", "keep"],
///             "deleted notes would stay longer than DOTMAC_NOTES_KEEP says",
///             "make it shorter, or keep them longer",
///         );
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut catalogue = Catalogue::platform();
/// catalogue.add::<NotesSettings>("notes")?;
/// let environment = [("DOTMAC_NOTES_KEEP", "1d")];
/// let settings = Settings::from_sources(&catalogue, &Sources::new(environment))?;
/// let notes = settings.of::<NotesSettings>();
/// assert_eq!(notes.map(|notes| (notes.page_size, notes.keep.as_secs())), Some((50, 86_400)));
/// # Ok(())
/// # }
/// ```
#[macro_export]
macro_rules! settings {
    (
        title: $title:literal, prefix: $prefix:literal $(, rules: $rules:expr)?;
        $(#[doc = $group_doc:literal])+
        $visibility:vis struct $group:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $kind:ty { $($property:ident: $value:expr),* $(,)? }
            )+
        }
    ) => {
        $(#[doc = $group_doc])+
        #[derive(Debug, Clone)]
        $visibility struct $group {
            $(
                $(#[doc = $doc])+
                $visibility $field: $kind,
            )+
        }

        impl<'de> $crate::settings::macro_support::Deserialize<'de> for $group {
            fn deserialize<D>(input: D) -> ::std::result::Result<Self, D::Error>
            where
                D: $crate::settings::macro_support::Deserializer<'de>,
            {
                let texts =
                    <$crate::settings::macro_support::Texts as $crate::settings::macro_support::Deserialize<'de>>::deserialize(input)?;
                ::std::result::Result::Ok(Self {
                    $($field: texts.value::<Self, $kind, D::Error>(::std::stringify!($field))?,)+
                })
            }
        }

        impl $crate::settings::Group for $group {
            const SPEC: &'static $crate::settings::GroupSpec = &$crate::settings::GroupSpec::new(
                $title,
                $prefix,
                ::std::concat!($($group_doc, "\n"),+),
                &[$(
                    $crate::settings::KeySpec::of::<$kind>(
                        $prefix,
                        ::std::stringify!($field),
                        ::std::concat!($($doc, "\n"),+),
                    )
                    $(.$property($value))*
                ),+],
            );

            $(
                fn rules(&self, rules: &mut $crate::settings::Rules<'_>) {
                    ($rules)(self, rules);
                }
            )?
        }
    };
}
