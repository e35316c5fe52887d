//! Identifiers: what people type, and the one normal form by which it is found.

use unicode_normalization::UnicodeNormalization as _;

/// User names that look like the house's own.
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

/// The longest address, in characters (RFC 5321, 4.5.3.1.3).
const LONGEST_EMAIL: usize = 254;

/// The longest local part (RFC 5321, 4.5.3.1.1).
const LONGEST_LOCAL: usize = 64;

/// The normal form of an e-mail address: lower case, the domain as A-labels. `None` for what is none.
///
/// The local part is ASCII; dots and `+` are kept, since whether they mean anything is the mail server's to say.
pub(crate) fn email(text: &str) -> Option<String> {
    let text: String = text.trim().nfc().collect();
    if text.chars().count() > LONGEST_EMAIL {
        return None;
    }
    let (local, domain) = text.rsplit_once('@')?;
    let is_local = (1..=LONGEST_LOCAL).contains(&local.len())
        && local
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&byte))
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..");
    // Refused before the domain is mapped: `idna` would drop what cannot be seen.
    let is_visible = domain
        .chars()
        .all(|letter| !letter.is_control() && !letter.is_whitespace() && !is_invisible(letter));
    if !is_local || !is_visible {
        return None;
    }
    let domain = idna::domain_to_ascii_strict(domain).ok()?;
    let labels: Vec<&str> = domain.split('.').collect();
    let is_domain = labels.len() >= 2
        && labels.iter().all(|label| !label.is_empty())
        && labels
            .last()
            .is_some_and(|top| !top.bytes().all(|byte| byte.is_ascii_digit()));
    is_domain.then(|| format!("{}@{domain}", local.to_ascii_lowercase()))
}

/// Zero-width characters, and those that turn the direction of writing.
fn is_invisible(letter: char) -> bool {
    matches!(letter,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0000}'..='\u{e0fff}')
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

/// What somebody typed to sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identifier {
    Email(String),
    Username(String),
    /// Neither, so nobody's.
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
    fn one_address_has_one_normal_form() {
        for (text, normal) in [
            (" Ann.Lee+x@Example.COM ", Some("ann.lee+x@example.com")),
            ("a@b\u{fc}cher.example", Some("a@xn--bcher-kva.example")),
            ("a@bu\u{308}cher.example", Some("a@xn--bcher-kva.example")),
            ("\u{430}nn@example.com", None),
            ("ann@exam\u{200b}ple.com", None),
            ("ann@\u{202e}example.com", None),
            ("ann\r\nBcc: x@example.com", None),
            ("ann@example.com\r\nBcc:x", None),
            ("ann@localhost", None),
            ("ann@127.0.0.1", None),
            ("ann@exa mple.com", None),
            ("@example.com", None),
            ("ann@", None),
            ("a..b@example.com", None),
            ("\"a b\"@example.com", None),
        ] {
            assert_eq!(email(text).as_deref(), normal, "{text:?}");
        }
    }

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
