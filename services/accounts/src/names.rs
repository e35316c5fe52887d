//! Identifiers: as they are typed, and the normal form by which they are found.

use dotmac_platform::mail::EmailAddress;
use unicode_normalization::UnicodeNormalization as _;

/// User names that look like those of the program.
const RESERVED: [&str; 16] = [
    "abuse",
    "account",
    "admin",
    "administrator",
    "api",
    "help",
    "hostmaster",
    "info",
    "me",
    "owner",
    "postmaster",
    "root",
    "security",
    "support",
    "system",
    "webmaster",
];

/// The normal form of an e-mail address; `None` for what is none.
pub(crate) fn email(text: &str) -> Option<String> {
    EmailAddress::parse(text).map(|it| it.normal().to_owned())
}

/// The normal form of a user name; `None` for what is none: 3 to 32 of `a-z 0-9 . _ -`, a letter or digit first.
pub(crate) fn username(text: &str) -> Option<String> {
    let text = text.trim();
    let is_right = (3..=32).contains(&text.len())
        && text.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte)
        })
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && !RESERVED.contains(&text);
    is_right.then(|| text.to_owned())
}

/// The identifier of a sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identifier {
    Email(String),
    Username(String),
    /// Neither, so of no user.
    Other(String),
}

impl Identifier {
    pub(crate) fn read(text: &str) -> Self {
        if text.contains('@') {
            return match email(text) {
                Some(email) => Self::Email(email),
                None => Self::Other(text.to_owned()),
            };
        }
        let lower = text.trim().to_ascii_lowercase();
        match username(&lower) {
            Some(name) => Self::Username(name),
            None => Self::Other(lower),
        }
    }

    /// What failures are counted by, for identifiers that exist and for those that do not.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Email(text) | Self::Username(text) | Self::Other(text) => text,
        }
    }
}

/// A password as it is hashed: NFC, since systems type the same letter in different ways.
pub(crate) fn password(text: &str) -> zeroize::Zeroizing<String> {
    zeroize::Zeroizing::new(text.nfc().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_are_plain_and_none_of_ours() {
        for (text, is_right) in [
            ("ann", true),
            ("ann.lee-2", true),
            ("an", false),
            ("Ann", false),
            (".ann", false),
            ("admin", false),
            ("an@n", false),
            ("\u{430}nn", false),
        ] {
            assert_eq!(username(text).is_some(), is_right, "{text:?}");
        }
        assert_eq!(
            Identifier::read("ANN"),
            Identifier::Username("ann".to_owned())
        );
    }
}
