//! E-mail addresses: what is one, and the one normal form by which it is found.

use std::fmt;

use unicode_normalization::UnicodeNormalization as _;

/// The longest address, in characters (RFC 5321, 4.5.3.1.3).
const LONGEST_EMAIL: usize = 254;

/// The longest local part (RFC 5321, 4.5.3.1.1).
const LONGEST_LOCAL: usize = 64;

/// An e-mail address: ASCII, its domain as A-labels, with no character that could end a line or a header.
///
/// The local part is kept as it was written, since its case is the mail server's to judge; two addresses that differ in
/// it alone are equal.
#[derive(Clone)]
pub struct EmailAddress {
    text: String,
    normal: String,
}

impl EmailAddress {
    /// The address that `text` is; `None` if it is none.
    ///
    /// The local part is ASCII; dots and `+` are kept, since whether they mean anything is the mail server's to say.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text: String = text.trim().nfc().collect();
        if text.chars().count() > LONGEST_EMAIL {
            return None;
        }
        let (local, domain) = text.rsplit_once('@')?;
        let is_local = (1..=LONGEST_LOCAL).contains(&local.len())
            && local.bytes().all(|byte| {
                byte.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&byte)
            })
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
        let text = format!("{local}@{domain}");
        let normal = format!("{}@{domain}", local.to_ascii_lowercase());
        (is_domain && normal.len() <= LONGEST_EMAIL).then_some(Self { text, normal })
    }

    /// The address as it is sent to.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The form by which it is found and compared: lower case.
    #[must_use]
    pub fn normal(&self) -> &str {
        &self.normal
    }

    /// Its domain, as A-labels.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.normal.rsplit('@').next().unwrap_or_default()
    }
}

impl PartialEq for EmailAddress {
    fn eq(&self, other: &Self) -> bool {
        self.normal == other.normal
    }
}

impl Eq for EmailAddress {}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for EmailAddress {
    /// The domain: an address is personal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EmailAddress(…@{})", self.domain())
    }
}

/// Whether it is a character without width, one that turns the direction of writing, one that ends a line, or a letter that looks
/// like a blank (the fillers of Hangul). Two texts that differ in such a character alone look the same.
#[must_use]
pub const fn is_invisible(letter: char) -> bool {
    matches!(letter,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0000}'..='\u{e0fff}'
        | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}')
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
            let address = EmailAddress::parse(text);
            let found = address.as_ref().map(EmailAddress::normal);
            assert_eq!(found, normal, "{text:?}");
        }
    }

    #[test]
    #[expect(clippy::expect_used, reason = "a test that cannot go on ends")]
    fn the_local_part_stays_as_it_was_written_and_nothing_shows_it() {
        let address = EmailAddress::parse("Ann.Lee@Example.COM").expect("it is one");
        assert_eq!(address.as_str(), "Ann.Lee@example.com");
        assert_eq!(format!("{address:?}"), "EmailAddress(…@example.com)");
        assert_eq!(Some(address), EmailAddress::parse("ann.lee@example.com"));
    }
}
