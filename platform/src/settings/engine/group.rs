//! A group of keys, declared once: [`group!`] makes of one text the struct that the program reads
//! and the table of [`KeySpec`] that everything else is generated from.
//!
//! The table serves the detection of unknown keys, `dotmac config`, reloading, `docs/settings.md`
//! and `deploy/dotmac.env.example`. The doc comment of a field is what operators read.

use std::time::Duration;

use serde::de::DeserializeOwned;

use super::facts::Facts;
use super::value::{Invalid, Setting};
use crate::settings::types::ByteSize;

/// What every key of ours begins with.
pub(crate) const PREFIX: &str = "DOTMAC_";

/// What the standard's variables about the export begin with.
const OTLP: &str = "OTEL_EXPORTER_OTLP_";

/// All about one key but its value.
#[derive(Debug)]
pub(crate) struct KeySpec {
    /// Name of the group in the key, `HTTP_`; empty for the app's own.
    pub(crate) prefix: &'static str,
    /// Name of the field, `body_limit`.
    pub(crate) field: &'static str,
    /// The doc comment of the field.
    pub(crate) doc: &'static str,
    /// What counts if nobody sets the key.
    pub(crate) default: DefaultText,
    /// Variables that count if the own key is not set; the first that is set wins.
    pub(crate) fallbacks: &'static [Fallback],
    /// Fields of the same group that, once set, make the fallbacks void.
    pub(crate) fallbacks_yield_to: &'static [&'static str],
    /// Bounds, both inclusive.
    pub(crate) range: Option<Range>,
    /// Where in Vault the value is looked for, if Vault is enabled and nobody sets the key.
    pub(crate) vault: Option<&'static str>,
    /// Whether SIGHUP can apply a change.
    pub(crate) live: bool,
    /// What the type of the field knows.
    pub(crate) kind: Kind,
}

/// The functions of a [`Setting`] type, with the type erased.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) example: &'static str,
    pub(crate) values: &'static [&'static str],
    pub(crate) secret: bool,
    pub(crate) expected: fn() -> String,
    pub(crate) shown: fn(&str) -> Option<String>,
    pub(crate) lasting: fn(&str) -> String,
    check: fn(&str) -> Result<(), Invalid>,
}

/// The text that is read when a key is not set: by the same parser as anybody's text.
#[derive(Debug)]
pub(crate) enum DefaultText {
    /// Not set means not set.
    Unset,
    /// Always the same.
    Fixed(&'static str),
    /// Depends on other settings or on the machine; an empty text means not set.
    Computed {
        described: &'static str,
        text: fn(&Facts<'_>) -> String,
    },
}

/// A variable of the wider world that stands in for a key of ours.
#[derive(Debug)]
pub(crate) struct Fallback {
    pub(crate) name: &'static str,
    /// From its notation into ours.
    pub(crate) translate: fn(&str) -> String,
    /// The variable without which this one says nothing.
    pub(crate) argument_of: Option<&'static str>,
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

/// Bounds as an operator would write them.
#[derive(Debug)]
pub(crate) struct Range {
    pub(crate) least: &'static str,
    pub(crate) most: &'static str,
    holds: fn(&Range, &str) -> bool,
}

/// What a group is called and which keys it has.
#[derive(Debug)]
pub(crate) struct GroupSpec {
    pub(crate) title: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) keys: &'static [KeySpec],
}

/// A struct made by [`group!`].
pub(crate) trait Group: DeserializeOwned {
    const SPEC: &'static GroupSpec;
}

impl KeySpec {
    /// A key without a default or anything else out of the ordinary.
    pub(crate) const fn of<T: Setting>(
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
            live: false,
            kind: Kind {
                example: T::EXAMPLE,
                values: T::VALUES,
                secret: T::SECRET,
                expected: T::expected,
                shown: T::shown,
                lasting: T::lasting,
                check: |text| T::parse(text).map(drop),
            },
        }
    }

    /// The full name, `DOTMAC_HTTP_BODY_LIMIT`.
    pub(crate) fn key(&self) -> String {
        format!("{PREFIX}{}{}", self.prefix, self.field.to_ascii_uppercase())
    }

    /// The full name of another field of the same group.
    pub(crate) fn sibling(&self, field: &str) -> String {
        format!("{PREFIX}{}{}", self.prefix, field.to_ascii_uppercase())
    }

    /// What a right value is, bounds included.
    pub(crate) fn expected(&self) -> String {
        let expected = (self.kind.expected)();
        match &self.range {
            Some(Range { least, most, .. }) => format!("{expected} from {least} to {most}"),
            None => expected,
        }
    }

    /// A right value to show to somebody who wrote a wrong one.
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
            Some(range) if !(range.holds)(range, text) => Err(Invalid::plain()),
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
    pub(crate) fn doc(&self) -> String {
        unindented(self.doc)
    }
}

fn unindented(doc: &str) -> String {
    doc.lines()
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(" ")
        .trim()
        .to_owned()
}

/// A default that is always the same, as an operator would write it.
pub(crate) const fn fixed(text: &'static str) -> DefaultText {
    DefaultText::Fixed(text)
}

/// A default that depends on [`Facts`]; `described` is what the documentation says of it.
pub(crate) const fn computed(
    described: &'static str,
    text: fn(&Facts<'_>) -> String,
) -> DefaultText {
    DefaultText::Computed { described, text }
}

/// A fallback written in the same notation as our key.
pub(crate) const fn fallback(name: &'static str) -> Fallback {
    translated(name, str::to_owned)
}

/// A fallback that counts only where the variable `of` is set too.
pub(crate) const fn argument(name: &'static str, of: &'static str) -> Fallback {
    Fallback {
        argument_of: Some(of),
        ..fallback(name)
    }
}

/// A fallback with a notation of its own. What cannot be translated stays as it is and is then
/// refused like any wrong value.
pub(crate) const fn translated(name: &'static str, translate: fn(&str) -> String) -> Fallback {
    Fallback {
        name,
        translate,
        argument_of: None,
    }
}

/// Bounds for a value of type `T`, both inclusive.
pub(crate) const fn between<T: Setting + PartialOrd>(
    least: &'static str,
    most: &'static str,
) -> Option<Range> {
    Some(Range {
        least,
        most,
        holds: |range, text| match (T::parse(range.least), T::parse(text), T::parse(range.most)) {
            (Ok(least), Ok(value), Ok(most)) => least <= value && value <= most,
            _ => false,
        },
    })
}

/// [`between`] for durations.
pub(crate) const fn lasting(least: &'static str, most: &'static str) -> Option<Range> {
    between::<Duration>(least, most)
}

/// [`between`] for sizes.
pub(crate) const fn sized(least: &'static str, most: &'static str) -> Option<Range> {
    between::<ByteSize>(least, most)
}

/// Declares a group: its title, its prefix, and for each key the doc comment, the type, and in
/// braces what [`KeySpec::of`] does not already say.
macro_rules! group {
    (
        title: $title:literal, prefix: $prefix:literal;
        $(#[doc = $group_doc:literal])+
        pub struct $group:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $kind:ty { $($property:ident: $value:expr),* $(,)? }
            )+
        }
    ) => {
        $(#[doc = $group_doc])+
        #[derive(Debug, Clone, serde::Deserialize)]
        pub struct $group {
            $(
                $(#[doc = $doc])+
                #[serde(deserialize_with = "crate::settings::engine::value::deserialize")]
                pub $field: $kind,
            )+
        }

        impl $crate::settings::engine::group::Group for $group {
            const SPEC: &'static $crate::settings::engine::group::GroupSpec =
                &$crate::settings::engine::group::GroupSpec {
                    title: $title,
                    doc: concat!($($group_doc, "\n"),+),
                    keys: &[$(
                        $crate::settings::engine::group::KeySpec {
                            $($property: $value,)*
                            ..$crate::settings::engine::group::KeySpec::of::<$kind>(
                                $prefix,
                                stringify!($field),
                                concat!($($doc, "\n"),+),
                            )
                        }
                    ),+],
                };
        }
    };
}

pub(crate) use group;
