//! What is accepted as a new password: long enough, and not one that is guessed first. No rules of composition, no expiry.

use unicode_normalization::UnicodeNormalization as _;
use zxcvbn::{Score, zxcvbn};

/// Code points at least, while the password is the only factor.
const SHORTEST: usize = 15;

/// Code points at least of a user who has a second factor.
const SHORTEST_WITH_FACTOR: usize = 8;

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

/// What an accepted password is long enough for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strength {
    /// To be the only factor.
    Alone,
    /// For a password along with a second factor.
    WithFactor,
}

impl Strength {
    /// Code points at least.
    const fn shortest(self) -> usize {
        match self {
            Self::Alone => SHORTEST,
            Self::WithFactor => SHORTEST_WITH_FACTOR,
        }
    }
}

/// Why a password is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PasswordFault {
    /// For what is needed of it.
    TooShort(Strength),
    TooLong,
    Common,
    Context,
    Breached,
}

impl PasswordFault {
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::TooShort(_) => "password_too_short",
            Self::TooLong => "password_too_long",
            Self::Common => "password_common",
            Self::Context => "password_context",
            Self::Breached => "password_breached",
        }
    }

    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::TooShort(Strength::Alone) => "must have at least 15 characters",
            Self::TooShort(Strength::WithFactor) => "must have at least 8 characters",
            Self::TooLong => "must have at most 128 characters and 1024 bytes",
            Self::Common => "is too easy to guess; use several unrelated words",
            Self::Breached => {
                "was found in a breach of another service; choose one that is used nowhere else"
            }
            Self::Context => "must not be made of the name, the address or the service's name",
        }
    }
}

/// What `password` is long enough for, if it is accepted for what is `needed`. Takes up to some milliseconds, so it is not for the
/// threads that serve requests.
pub(super) fn check(
    password: &str,
    context: &Context,
    needed: Strength,
) -> Result<Strength, PasswordFault> {
    if password.len() > LONGEST_BYTES {
        return Err(PasswordFault::TooLong);
    }
    let normal: String = password.nfc().collect();
    let length = normal.chars().count();
    if length < needed.shortest() {
        return Err(PasswordFault::TooShort(needed));
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
    // Eight characters without any pattern are worth two: 10^8 guesses, which a second factor and the limits of sign-ins are enough for.
    let (strength, least) = if length < SHORTEST {
        (Strength::WithFactor, Score::Two)
    } else {
        (Strength::Alone, Score::Three)
    };
    if zxcvbn(&estimated, &words).score() < least {
        return Err(PasswordFault::Common);
    }
    Ok(strength)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_long_and_not_the_first_guess() {
        let context = Context(vec!["ann.lee".to_owned(), "dotmac".to_owned()]);
        let too_short = PasswordFault::TooShort(Strength::Alone);
        let check = |password: &str| check(password, &context, Strength::Alone);
        for (password, expected) in [
            ("correct-horse-battery", Ok(Strength::Alone)),
            ("zwölf Boxkämpfer jagen", Ok(Strength::Alone)),
            ("short", Err(too_short)),
            ("kV7!qz2#pL9w-m", Err(too_short)),
            ("passwordpassword", Err(PasswordFault::Common)),
            ("aaaaaaaaaaaaaaaaaaaa", Err(PasswordFault::Common)),
            ("123456789012345678", Err(PasswordFault::Common)),
            ("ann.leedotmac2026", Err(PasswordFault::Context)),
        ] {
            assert_eq!(check(password), expected, "{password}");
        }
        assert_eq!(check(&"x7 kq ".repeat(200)), Err(PasswordFault::TooLong));
        // Decomposed letters count once.
        assert_eq!(check(&"e\u{301}".repeat(14)), Err(too_short));
        assert_eq!(too_short.message(), "must have at least 15 characters");
    }

    #[test]
    fn beside_a_second_factor_eight_characters_do_if_nobody_guesses_them_first() {
        let too_short = PasswordFault::TooShort(Strength::WithFactor);
        for (password, expected) in [
            ("kV7!qz2#", Ok(Strength::WithFactor)),
            ("kV7!qz2#pL9w-m", Ok(Strength::WithFactor)),
            ("correct-horse-battery", Ok(Strength::Alone)),
            ("kV7!qz2", Err(too_short)),
            ("password", Err(PasswordFault::Common)),
            ("12345678", Err(PasswordFault::Common)),
        ] {
            let checked = check(password, &Context::default(), Strength::WithFactor);
            assert_eq!(checked, expected, "{password}");
        }
        assert_eq!(too_short.message(), "must have at least 8 characters");
    }
}
