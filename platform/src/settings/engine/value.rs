//! How one value is read from text: the trait [`Setting`] and its implementations for std types.
//!
//! Every value passes through [`Setting::parse`], defaults included, so that what the documentation
//! says can be written is what the daemon reads. Types of our own are in [`types`](super::types).

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;

use super::group::KeySpec;
use crate::settings::types::percent_decoded;

/// Bytes of the longest path: `PATH_MAX` of Linux less the null character at its end.
const PATH_LIMIT: usize = 4095;

/// Why a text is not a value. The reason must not repeat the text, which may be a secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Invalid {
    pub(crate) reason: Option<String>,
    pub(crate) remedy: Option<String>,
}

impl Invalid {
    /// It is simply not what [`Setting::expected`] says.
    #[must_use]
    pub fn plain() -> Self {
        Self::default()
    }

    /// It is not, for `reason`, which must not repeat the text.
    #[must_use]
    pub fn because(reason: impl Into<String>) -> Self {
        Self {
            reason: Some(reason.into()),
            remedy: None,
        }
    }

    /// Says what to write, where an example of the type would be of less help.
    #[must_use]
    pub fn instead(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// A value that can be read from the text an operator writes. A service implements it for types of its own;
/// for a closed set of words [`choice!`](crate::choice!) does.
///
/// ```
/// use dotmac_platform::settings::{Invalid, Setting};
///
/// /// A colour as `#00aa7f`.
/// #[derive(Debug, Clone)]
/// pub struct Colour(String);
///
/// impl Setting for Colour {
///     const EXAMPLE: &'static str = "#00aa7f";
///
///     fn expected() -> String {
///         "a colour".to_owned()
///     }
///
///     fn parse(text: &str) -> Result<Self, Invalid> {
///         let digits = text.strip_prefix('#').ok_or_else(|| Invalid::because("the `#` is missing"))?;
///         if digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
///             Ok(Self(text.to_ascii_lowercase()))
///         } else {
///             Err(Invalid::plain())
///         }
///     }
/// }
/// ```
pub trait Setting: Sized {
    /// A right value, for messages.
    const EXAMPLE: &'static str;
    /// All right values, if they are few.
    const VALUES: &'static [&'static str] = &[];
    /// Whether the value must never be shown. Then `Debug` must not show it either. The secrets of a module are
    /// of the type [`SecretSetting`](crate::settings::SecretSetting).
    const SECRET: bool = false;
    /// Whether it may be in Vault and is followed by its key, as a
    /// [`SecretSetting`](crate::settings::SecretSetting) is.
    #[doc(hidden)]
    const FOLLOWED: bool = false;

    /// The description of a valid value, to follow "is not": `a whole number`.
    fn expected() -> String;

    /// Reads `text`, which has no surrounding white space unless it is meant.
    ///
    /// # Errors
    ///
    /// [`Invalid`] if `text` is not what [`expected`](Self::expected) says.
    fn parse(text: &str) -> Result<Self, Invalid>;

    /// How `text` may be shown to a reader, whether it is right or wrong; `None` if not at all.
    fn shown(text: &str) -> Option<String> {
        (!Self::SECRET).then(|| text.to_owned())
    }

    /// The part of `text` that a running process cannot change: texts with the same part differ in what is
    /// taken live.
    fn lasting(text: &str) -> String {
        text.to_owned()
    }

    /// Learns which key the value is of.
    #[doc(hidden)]
    #[must_use]
    fn of_key(self, spec: &KeySpec) -> Self {
        let _ = spec;
        self
    }
}

/// Unset or set: an empty text is `None`.
impl<T: Setting> Setting for Option<T> {
    const EXAMPLE: &'static str = T::EXAMPLE;
    const VALUES: &'static [&'static str] = T::VALUES;
    const SECRET: bool = T::SECRET;

    fn expected() -> String {
        T::expected()
    }

    fn parse(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            Ok(None)
        } else {
            T::parse(text).map(Some)
        }
    }

    fn shown(text: &str) -> Option<String> {
        T::shown(text)
    }

    fn lasting(text: &str) -> String {
        T::lasting(text)
    }

    fn of_key(self, spec: &KeySpec) -> Self {
        self.map(|value| value.of_key(spec))
    }
}

/// Comma-separated; white space around an item and empty items do not count.
impl<T: Setting> Setting for Vec<T> {
    const EXAMPLE: &'static str = T::EXAMPLE;
    const SECRET: bool = T::SECRET;

    fn expected() -> String {
        format!("a comma-separated list, each item {}", T::expected())
    }

    fn parse(text: &str) -> Result<Self, Invalid> {
        // Nothing where something was meant: as an empty list it might allow everything.
        if !text.is_empty() && items(text).next().is_none() {
            return Err(Invalid::because("it holds no item").instead("list an item, or unset it"));
        }
        items(text)
            .enumerate()
            .map(|(index, item)| {
                T::parse(item).map_err(|invalid| {
                    let reason = invalid
                        .reason
                        .unwrap_or_else(|| "not as expected".to_owned());
                    Invalid::because(format!("item {}: {reason}", index + 1))
                })
            })
            .collect()
    }

    fn shown(text: &str) -> Option<String> {
        let shown: Option<Vec<String>> = items(text).map(T::shown).collect();
        // As it was written, if all of it may be shown as it was written.
        let is_plain = shown.as_ref()?.iter().map(String::as_str).eq(items(text));
        shown.map(|shown| {
            if is_plain {
                text.to_owned()
            } else {
                shown.join(",")
            }
        })
    }
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

impl Setting for bool {
    const EXAMPLE: &'static str = "true";
    const VALUES: &'static [&'static str] = &["true", "false"];

    fn expected() -> String {
        "true or false".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Invalid> {
        text.to_ascii_lowercase()
            .parse()
            .map_err(|_| Invalid::plain())
    }
}

macro_rules! whole_numbers {
    ($($number:ty),+) => {$(
        impl Setting for $number {
            const EXAMPLE: &'static str = "10";

            fn expected() -> String {
                "a whole number".to_owned()
            }

            fn parse(text: &str) -> Result<Self, Invalid> {
                text.parse().map_err(|_| Invalid::plain())
            }
        }
    )+};
}

whole_numbers!(u8, u16, u32, u64, usize, i32, i64);

impl Setting for f64 {
    const EXAMPLE: &'static str = "0.5";

    fn expected() -> String {
        "a number".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Invalid> {
        let number: Self = text.parse().map_err(|_| Invalid::plain())?;
        if number.is_finite() {
            Ok(number)
        } else {
            Err(Invalid::plain())
        }
    }
}

impl Setting for Duration {
    const EXAMPLE: &'static str = "5s";

    fn expected() -> String {
        "a duration with its unit".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Invalid> {
        let number = text.trim();
        // Longer than this is no duration with any unit.
        let is_short = number.len() <= 20;
        if is_short && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) {
            // humantime would take a bare 0; we do not want to explain that exception.
            return Err(Invalid::because("the unit is missing").instead(format!(
                "write {number}s for seconds, {number}ms for milliseconds"
            )));
        }
        humantime::parse_duration(text).map_err(|error| match error {
            humantime::DurationError::NumberOverflow => Invalid::because("it is too long"),
            humantime::DurationError::UnknownUnit { .. } => {
                Invalid::because("units are ms, s, m, h and d")
            }
            _ => Invalid::plain(),
        })
    }
}

/// Any text in which no line of a log can be forged.
impl Setting for String {
    const EXAMPLE: &'static str = "some-text";

    fn expected() -> String {
        "text without control characters".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Invalid> {
        if text.trim().is_empty() || text.chars().any(char::is_control) {
            return Err(Invalid::plain());
        }
        Ok(text.to_owned())
    }
}

impl Setting for PathBuf {
    const EXAMPLE: &'static str = "/etc/dotmac/file.pem";

    fn expected() -> String {
        "the path of a file".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Invalid> {
        if text.trim().is_empty() {
            return Err(Invalid::plain());
        }
        if text.chars().any(char::is_control) {
            return Err(Invalid::because("it holds a control character"));
        }
        if text.len() > PATH_LIMIT {
            return Err(Invalid::because("it is longer than a path can be"));
        }
        Ok(Self::from(text))
    }
}

/// A network, or one address.
impl Setting for IpNet {
    const EXAMPLE: &'static str = "10.0.0.0/8";

    fn expected() -> String {
        "a network or an address".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Invalid> {
        let one_address = |_| text.parse::<IpAddr>().map(Self::from);
        text.parse()
            .or_else(one_address)
            .map_err(|_| Invalid::plain())
    }
}

/// `name=value`, the value percent-encoded where it holds a comma (as `OTEL_RESOURCE_ATTRIBUTES`).
impl Setting for (String, String) {
    const EXAMPLE: &'static str = "team=payments";

    fn expected() -> String {
        "name=value".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Invalid> {
        let (name, value) = text.split_once('=').ok_or_else(Invalid::plain)?;
        let name = String::parse(name.trim())?;
        let value = percent_decoded(value.trim())
            .ok_or_else(|| Invalid::because("a `%` is not followed by the code of a character"))?;
        Ok((name, value))
    }
}

/// A secret that opens Vault, so it cannot be a reference into Vault.
impl Setting for SecretString {
    const EXAMPLE: &'static str = "hvs.…";
    const SECRET: bool = true;

    fn expected() -> String {
        "a secret written out".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Invalid> {
        if text.starts_with("vault:") {
            let reason = "this is what opens Vault, so it cannot be a `vault:` reference";
            return Err(Invalid::because(reason)
                .instead("give the value itself, best through the key's `_FILE` twin"));
        }
        if text.trim().is_empty() || text.chars().any(char::is_control) {
            return Err(Invalid::because("it is blank or holds a control character")
                .instead("give the secret on a single line"));
        }
        Ok(Self::from(text))
    }
}
