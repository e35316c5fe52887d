//! What is accepted as a new password: long enough, and not one that is guessed first. No rules of composition, no expiry.

use unicode_normalization::UnicodeNormalization as _;
use zxcvbn::{Score, zxcvbn};

/// Code points at least, while the password is the only factor.
const SHORTEST: usize = 15;

/// Code points at most.
const LONGEST: usize = 128;

/// Bytes at most, checked before anything else is done with a password.
const LONGEST_BYTES: usize = 1024;

/// Characters that are estimated: the time grows with the square of the length.
const ESTIMATED: usize = 72;

/// Shorter words are part of too many good passwords.
const SHORTEST_WORD: usize = 4;

/// Words that an attacker tries first for this account.
#[derive(Clone, Debug, Default)]
pub(crate) struct Context(pub(crate) Vec<String>);

/// Why a password is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PasswordFault {
    TooShort,
    TooLong,
    Common,
    Context,
    Breached,
}

impl PasswordFault {
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::TooShort => "password_too_short",
            Self::TooLong => "password_too_long",
            Self::Common => "password_common",
            Self::Context => "password_context",
            Self::Breached => "password_breached",
        }
    }

    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::TooShort => "must have at least 15 characters",
            Self::TooLong => "must have at most 128 characters and 1024 bytes",
            Self::Common => "is one that attackers try early; several unrelated words are better",
            Self::Breached => {
                "was found in a breach of another service; choose one that is used nowhere else"
            }
            Self::Context => "must not be made of the name, the address or the service's name",
        }
    }
}

/// Whether `password` is accepted. Takes up to some milliseconds, so it is not for the threads that serve requests.
pub(super) fn check(password: &str, context: &Context) -> Result<(), PasswordFault> {
    if password.len() > LONGEST_BYTES {
        return Err(PasswordFault::TooLong);
    }
    let normal: String = password.nfc().collect();
    let length = normal.chars().count();
    if length < SHORTEST {
        return Err(PasswordFault::TooShort);
    }
    if length > LONGEST {
        return Err(PasswordFault::TooLong);
    }
    let words: Vec<String> = context.0.iter().map(|word| word.to_lowercase()).collect();
    let lower = normal.to_lowercase();
    let rest = words
        .iter()
        .filter(|word| word.chars().count() >= SHORTEST_WORD)
        .fold(lower, |rest, word| rest.replace(word.as_str(), ""));
    if rest.chars().count() < length / 2 {
        return Err(PasswordFault::Context);
    }
    let estimated: String = normal.chars().take(ESTIMATED).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if zxcvbn(&estimated, &words).score() < Score::Three {
        return Err(PasswordFault::Common);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_long_and_not_the_first_guess() {
        let context = Context(vec!["ann.lee".to_owned(), "dotmac".to_owned()]);
        for (password, expected) in [
            ("correct-horse-battery", Ok(())),
            ("zwölf Boxkämpfer jagen", Ok(())),
            ("short", Err(PasswordFault::TooShort)),
            ("passwordpassword", Err(PasswordFault::Common)),
            ("aaaaaaaaaaaaaaaaaaaa", Err(PasswordFault::Common)),
            ("123456789012345678", Err(PasswordFault::Common)),
            ("ann.leedotmac2026", Err(PasswordFault::Context)),
        ] {
            assert_eq!(check(password, &context), expected, "{password}");
        }
        assert_eq!(
            check(&"x7 kq ".repeat(200), &context),
            Err(PasswordFault::TooLong)
        );
        // Decomposed letters count once.
        assert_eq!(
            check(&"e\u{301}".repeat(14), &context),
            Err(PasswordFault::TooShort)
        );
    }
}
