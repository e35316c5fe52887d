//! Where a secret lies: `vault:PATH#FIELD`, and the paths that may be asked for.
//!
//! Everything that reaches Vault as part of a URL passes through [`SecretPath`], so a setting cannot
//! climb out of its mount. The rule is a list of what is allowed, not of what is known to be bad:
//! clients differ in what they decode, strip and normalise. Errors never repeat the input, which may
//! be a password that happens to begin with `vault:`.

use std::{fmt, str::FromStr};

const SCHEME: &str = "vault:";
const PATH_LIMIT: usize = 512;
const FIELD_LIMIT: usize = 128;

/// A path below a KV mount, such as `database/password`: relative, and free of anything that a URL
/// parser could take for more than a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretPath(Box<str>);

impl SecretPath {
    /// The path itself, without a slash at either end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SecretPath {
    type Err = ReferenceError;

    fn from_str(path: &str) -> Result<Self, ReferenceError> {
        if path.is_empty() {
            return Err(ReferenceError::NoPath);
        }
        if path.len() > PATH_LIMIT {
            return Err(ReferenceError::TooLong {
                what: "path",
                length: path.len(),
                limit: PATH_LIMIT,
            });
        }
        if path.starts_with('/') {
            return Err(ReferenceError::LeadingSlash);
        }
        if let Some((at, found)) = path.char_indices().find(|(_, c)| !is_path_character(*c)) {
            return Err(ReferenceError::PathCharacter {
                found,
                position: at + 1,
            });
        }
        for segment in path.split('/') {
            match segment {
                "" => return Err(ReferenceError::EmptySegment),
                "." | ".." => return Err(ReferenceError::DotSegment),
                _ => {}
            }
        }
        Ok(Self(path.into()))
    }
}

fn is_path_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || "/-_.~@:+=,".contains(c)
}

/// A secret named by its place instead of its value: `vault:PATH#FIELD`, `#FIELD` being optional.
///
/// Without a field the one called `value` is meant, else the only one there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SecretReference {
    /// The place below the configured mount.
    pub path: SecretPath,
    /// The field there; `None` for `value`, else the only one.
    pub field: Option<String>,
}

impl SecretReference {
    /// The prefix of every reference.
    pub const SCHEME: &'static str = SCHEME;

    /// Whether `text` claims to be a reference, well-formed or not.
    #[must_use]
    pub fn is_reference(text: &str) -> bool {
        text.starts_with(SCHEME)
    }
}

impl fmt::Display for SecretReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.path)?;
        self.field
            .as_ref()
            .map_or(Ok(()), |field| write!(f, "#{field}"))
    }
}

impl FromStr for SecretReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let place = text.strip_prefix(SCHEME).ok_or(ReferenceError::Scheme)?;
        let (path, field) = match place.split_once('#') {
            Some((path, field)) => (path, Some(parse_field(field)?)),
            None => (place, None),
        };
        Ok(Self {
            path: path.parse()?,
            field,
        })
    }
}

fn parse_field(field: &str) -> Result<String, ReferenceError> {
    if field.is_empty() {
        return Err(ReferenceError::NoField);
    }
    if field.len() > FIELD_LIMIT {
        return Err(ReferenceError::TooLong {
            what: "field",
            length: field.len(),
            limit: FIELD_LIMIT,
        });
    }
    match field
        .char_indices()
        .find(|(_, c)| !c.is_ascii_graphic() || *c == '#')
    {
        Some((at, found)) => Err(ReferenceError::FieldCharacter {
            found,
            position: at + 1,
        }),
        None => Ok(field.to_owned()),
    }
}

/// The fault of a reference, and the valid form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// It does not begin with `vault:`.
    #[error("a reference begins with `vault:`, as in `vault:database/password#value`")]
    Scheme,
    /// Nothing stands between `vault:` and the field.
    #[error("the path is empty; name the secret below its mount, as in `vault:database/password`")]
    NoPath,
    /// The path begins with a slash.
    #[error(
        "the path begins with a slash; it is relative to the mount, as in `vault:database/password`"
    )]
    LeadingSlash,
    /// Two slashes in a row, or one at the end.
    #[error(
        "the path has an empty segment; write single slashes between names and none at the end"
    )]
    EmptySegment,
    /// `.` or `..` stands for a segment.
    #[error("the path has a segment `.` or `..`; name the secret without leaving its mount")]
    DotSegment,
    /// A character that no path may hold, percent signs among them.
    #[error(
        "the path has the character {found:?} at position {position}; use letters, digits, slashes and any of \
        `-_.~@:+=,`; nothing is percent-decoded"
    )]
    PathCharacter {
        /// The first such character.
        found: char,
        /// Where it stands in the path, in bytes counted from 1.
        position: usize,
    },
    /// `#` is there, the field is not.
    #[error(
        "no field follows the `#`; name one, as in `vault:database/password#value`, or leave the `#` out"
    )]
    NoField,
    /// A character that no field may hold.
    #[error(
        "the field has the character {found:?} at position {position}; use visible ASCII characters other than `#`"
    )]
    FieldCharacter {
        /// The first such character.
        found: char,
        /// Where it stands in the field, in bytes counted from 1.
        position: usize,
    },
    /// Longer than any sensible name.
    #[error("the {what} is {length} bytes long; at most {limit} are allowed")]
    TooLong {
        /// "path" or "field".
        what: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The longest allowed, in bytes.
        limit: usize,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(text: &str) -> Option<ReferenceError> {
        text.parse::<SecretReference>().err()
    }

    #[test]
    fn a_reference_names_a_path_and_perhaps_a_field() -> Result<(), ReferenceError> {
        let with: SecretReference = "vault:database/password#pass.word-1".parse()?;
        assert_eq!(
            (with.path.as_str(), with.field.as_deref()),
            ("database/password", Some("pass.word-1"))
        );
        let without: SecretReference = "vault:app/secret_key".parse()?;
        assert_eq!(
            (without.path.as_str(), without.field),
            ("app/secret_key", None)
        );
        assert_eq!(with.to_string(), "vault:database/password#pass.word-1");
        Ok(())
    }

    #[test]
    fn a_path_cannot_leave_its_mount() {
        for climb in [
            "vault:..",
            "vault:../sys/mounts",
            "vault:a/../../sys",
            "vault:a/..",
            "vault:./a",
            "vault:a/./b",
        ] {
            assert_eq!(refused(climb), Some(ReferenceError::DotSegment), "{climb}");
        }
        for (trick, found) in [
            ("vault:a/%2e%2e/b", '%'),
            ("vault:a%2fb", '%'),
            ("vault:a\\..\\b", '\\'),
            ("vault:a?list=true", '?'),
            ("vault:a/.\t./b", '\t'),
            ("vault:a\r\nX-Vault-Token: x", '\r'),
            ("vault:a\u{0}", '\u{0}'),
            ("vault:a\u{ff0f}b", '\u{ff0f}'),
            ("vault:a b", ' '),
        ] {
            assert!(
                matches!(refused(trick), Some(ReferenceError::PathCharacter { found: f, .. }) if f == found),
                "{trick:?}"
            );
        }
    }

    #[test]
    fn each_mistake_is_distinguished() {
        assert_eq!(refused("secret/a"), Some(ReferenceError::Scheme));
        assert_eq!(refused("vault:"), Some(ReferenceError::NoPath));
        assert_eq!(refused("vault:#value"), Some(ReferenceError::NoPath));
        assert_eq!(refused("vault:/a"), Some(ReferenceError::LeadingSlash));
        assert_eq!(refused("vault:a//b"), Some(ReferenceError::EmptySegment));
        assert_eq!(refused("vault:a/"), Some(ReferenceError::EmptySegment));
        assert_eq!(refused("vault:a#"), Some(ReferenceError::NoField));
        assert!(matches!(
            refused("vault:a#b#c"),
            Some(ReferenceError::FieldCharacter {
                found: '#',
                position: 2
            })
        ));
        assert!(matches!(
            refused("vault:a#\n"),
            Some(ReferenceError::FieldCharacter { .. })
        ));
        let long = format!("vault:{}", "a".repeat(PATH_LIMIT + 1));
        assert!(matches!(
            refused(&long),
            Some(ReferenceError::TooLong { what: "path", .. })
        ));
        let long = format!("vault:a#{}", "b".repeat(FIELD_LIMIT + 1));
        assert!(matches!(
            refused(&long),
            Some(ReferenceError::TooLong { what: "field", .. })
        ));
    }

    #[test]
    fn an_error_does_not_repeat_the_input() {
        let error = refused("vault:correct horse battery")
            .map(|e| e.to_string())
            .unwrap_or_default();
        assert!(
            !error.contains("correct") && !error.contains("battery"),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_plain_and_prints_as_it_was(text in "vault:[ -~]{0,40}") {
            if let Ok(reference) = text.parse::<SecretReference>() {
                prop_assert_eq!(reference.to_string(), text);
                prop_assert!(!reference.path.as_str().contains(['%', '\\', '?', '#', ' ']));
                prop_assert!(reference.path.as_str().split('/').all(|s| !matches!(s, "" | "." | "..")));
            }
        }

        #[test]
        fn no_input_makes_it_panic(text in "\\PC{0,60}") {
            drop(text.parse::<SecretReference>());
            drop(format!("vault:{text}").parse::<SecretReference>());
        }
    }
}
