//! Secrets as clients hold them: `prefix_` and base62, with a checksum at the end.
//!
//! The checksum (CRC-32 in six characters, the scheme of GitHub's tokens) lets a mistyped secret, or one that was cut
//! off, be refused before any query, and lets scanners of repositories find real ones. It is no protection: that is in
//! the length of what is random.

use aws_lc_rs::{digest, rand};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::AccountsError;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Characters of a checksum: 62^6 is more than 2^32.
const CHECKSUM: usize = 6;

/// Characters of the public part of a secret with two parts.
const PUBLIC_ID: usize = 12;

/// Characters of its secret part: 190 bits.
const SECRET: usize = 32;

/// The longest text that is checked.
const LONGEST: usize = 256;

/// What a secret is for: what its text begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefix {
    /// The cookie of a browser's session.
    Session,
    /// The refresh token of a session with tokens.
    Refresh,
    /// The key of a service account.
    ServiceKey,
    /// The key of a person.
    PersonalKey,
    /// A link that is good once.
    OneTime,
    /// The cookie of a known device.
    Device,
    /// A sign-in that waits for a second factor.
    Flow,
    /// The cookie of a browser that has asked for a mail.
    Browser,
}

impl Prefix {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Session => "dms_",
            Self::Refresh => "dmr_",
            Self::ServiceKey => "dmk_",
            Self::PersonalKey => "dmp_",
            Self::OneTime => "dmo_",
            Self::Device => "dmd_",
            Self::Flow => "dmf_",
            Self::Browser => "dmb_",
        }
    }
}

/// A secret of random bytes: its text, and what is stored of it.
pub(crate) struct Minted {
    pub(crate) text: SecretString,
    pub(crate) hash: Vec<u8>,
}

/// A secret of two parts: the public one finds the row, the other proves the right to it.
pub(crate) struct MintedPair {
    pub(crate) text: SecretString,
    pub(crate) public_id: String,
    /// SHA-256 of the secret part.
    pub(crate) hash: Vec<u8>,
}

/// A secret of two parts, as a client gave it.
pub(crate) struct GivenPair<'a> {
    pub(crate) public_id: &'a str,
    /// SHA-256 of the secret part.
    pub(crate) hash: Vec<u8>,
}

/// 32 random bytes behind `prefix`.
pub(crate) fn mint(prefix: Prefix) -> Result<Minted, AccountsError> {
    let bytes = random::<32>()?;
    let text = encode(prefix, &*bytes);
    let hash = sha256(text.expose_secret().as_bytes());
    Ok(Minted { text, hash })
}

/// A secret of two parts behind `prefix`.
pub(crate) fn mint_pair(prefix: Prefix) -> Result<MintedPair, AccountsError> {
    let body = random_digits(PUBLIC_ID + SECRET)?;
    let public_id = body[..PUBLIC_ID].to_owned();
    let hash = sha256(&body.as_bytes()[PUBLIC_ID..]);
    let text = with_checksum(prefix, &body);
    Ok(MintedPair {
        text,
        public_id,
        hash,
    })
}

/// A code of eight decimal digits, each code as likely as any other: 26 bits, good for few tries.
pub(crate) fn mail_code() -> Result<SecretString, AccountsError> {
    const CODES: u32 = 100_000_000;
    loop {
        let number = u32::from_be_bytes(*random::<4>()?);
        // What is beyond the largest multiple would make some codes likelier.
        if number < u32::MAX / CODES * CODES {
            return Ok(format!("{:08}", number % CODES).into());
        }
    }
}

/// Another secret part behind the public part of a secret that there is.
pub(crate) fn mint_secret_of(prefix: Prefix, public_id: &str) -> Result<Minted, AccountsError> {
    let secret = random_digits(SECRET)?;
    let hash = sha256(secret.as_bytes());
    let body = Zeroizing::new(format!("{public_id}{}", secret.as_str()));
    Ok(Minted {
        text: with_checksum(prefix, &body),
        hash,
    })
}

/// The parts of a secret of two parts; `None` for what is none.
pub(crate) fn read_pair(prefix: Prefix, text: &str) -> Option<GivenPair<'_>> {
    let body = checked(prefix, text)?;
    if body.len() != PUBLIC_ID + SECRET {
        return None;
    }
    let (public_id, secret) = body.split_at_checked(PUBLIC_ID)?;
    Some(GivenPair {
        public_id,
        hash: sha256(secret.as_bytes()),
    })
}

/// The hash by which a secret of random bytes is found; `None` for what is none.
pub(crate) fn read(prefix: Prefix, text: &str) -> Option<Vec<u8>> {
    checked(prefix, text).map(|_| sha256(text.as_bytes()))
}

/// Whether `text` begins as secrets with `prefix` do.
pub(crate) fn is_of(prefix: Prefix, text: &str) -> bool {
    text.starts_with(prefix.text())
}

/// `bytes` as text behind `prefix`.
pub(crate) fn encode(prefix: Prefix, bytes: &[u8]) -> SecretString {
    with_checksum(prefix, &to_base62(bytes))
}

/// The `N` bytes of a text behind `prefix`; `None` for any other text.
pub(crate) fn decode<const N: usize>(prefix: Prefix, text: &str) -> Option<Zeroizing<[u8; N]>> {
    let body = checked(prefix, text)?;
    from_base62(body)
}

pub(crate) fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

pub(crate) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, AccountsError> {
    let mut bytes = Zeroizing::new([0; N]);
    rand::fill(&mut *bytes).map_err(|_| AccountsError::NoRandom)?;
    Ok(bytes)
}

/// `count` random digits, each as likely as any other.
fn random_digits(count: usize) -> Result<Zeroizing<String>, AccountsError> {
    let mut text = Zeroizing::new(String::with_capacity(count));
    while text.len() < count {
        for byte in random::<64>()?.iter() {
            // 248 is the largest multiple of 62 below 256: what is beyond would make some digits likelier.
            if *byte < 248 && text.len() < count {
                text.push(char::from(DIGITS[usize::from(*byte % 62)]));
            }
        }
    }
    Ok(text)
}

fn with_checksum(prefix: Prefix, body: &str) -> SecretString {
    let mut text = String::with_capacity(prefix.text().len() + body.len() + CHECKSUM);
    text.push_str(prefix.text());
    text.push_str(body);
    let checksum = checksum(&text);
    text.push_str(&checksum);
    text.into()
}

/// What stands between prefix and checksum, if the checksum is right.
fn checked(prefix: Prefix, text: &str) -> Option<&str> {
    if text.len() > LONGEST || !text.is_ascii() {
        return None;
    }
    let body = text.strip_prefix(prefix.text())?;
    if !body.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let (body, given) = body.split_at_checked(body.len().checked_sub(CHECKSUM)?)?;
    let covered = &text[..prefix.text().len() + body.len()];
    (checksum(covered) == given).then_some(body)
}

fn checksum(text: &str) -> String {
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut digits = [b'0'; CHECKSUM];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    digits.iter().copied().map(char::from).collect()
}

/// Digits that hold so many bytes: log 256 / log 62 = 1.3437 for each.
const fn digits_for(bytes: usize) -> usize {
    (bytes * 13_437).div_ceil(10_000)
}

/// The number whose big-endian bytes are `bytes`, in digits of which there are as many for any such number.
fn to_base62(bytes: &[u8]) -> Zeroizing<String> {
    let mut number = Zeroizing::new(bytes.to_vec());
    let mut digits = Zeroizing::new(vec![b'0'; digits_for(bytes.len())]);
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0_u32;
        for byte in number.iter_mut() {
            let value = remainder * 256 + u32::from(*byte);
            *byte = (value / 62) as u8;
            remainder = value % 62;
        }
        *digit = DIGITS[remainder as usize];
    }
    Zeroizing::new(digits.iter().copied().map(char::from).collect())
}

fn from_base62<const N: usize>(text: &str) -> Option<Zeroizing<[u8; N]>> {
    if text.len() != digits_for(N) {
        return None;
    }
    let mut number = Zeroizing::new([0; N]);
    for digit in text.bytes() {
        let mut carry = DIGITS.iter().position(|known| *known == digit)? as u32;
        for byte in number.iter_mut().rev() {
            let value = u32::from(*byte) * 62 + carry;
            *byte = (value % 256) as u8;
            carry = value / 256;
        }
        if carry != 0 {
            return None;
        }
    }
    Some(number)
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_any_changed_character_is_noticed() {
        for bytes in [[0_u8; 38], [255; 38], [7; 38]] {
            let text = encode(Prefix::Refresh, &bytes);
            let text = text.expose_secret();
            assert_eq!(text.len(), 4 + 52 + CHECKSUM, "{text}");
            let back = decode::<38>(Prefix::Refresh, text).expect("its own text");
            assert_eq!(*back, bytes);
            assert!(decode::<38>(Prefix::Session, text).is_none());
            assert!(decode::<32>(Prefix::Refresh, text).is_none());
            for place in 4..text.len() {
                let mut changed = text.as_bytes().to_vec();
                changed[place] = if changed[place] == b'a' { b'b' } else { b'a' };
                let changed = String::from_utf8(changed).expect("ASCII");
                assert!(decode::<38>(Prefix::Refresh, &changed).is_none());
            }
        }
    }

    #[test]
    fn a_code_of_a_mail_has_eight_digits() {
        for _ in 0..100 {
            let code = mail_code().expect("random bytes");
            let code = code.expose_secret();
            assert!(code.len() == 8 && code.bytes().all(|it| it.is_ascii_digit()));
        }
    }

    #[test]
    fn a_secret_of_two_parts_is_found_by_one_and_proved_by_the_other() {
        let minted = mint_pair(Prefix::ServiceKey).expect("random bytes");
        let text = minted.text.expose_secret();
        let given = read_pair(Prefix::ServiceKey, text).expect("its own text");
        assert_eq!(
            (given.public_id, &given.hash),
            (minted.public_id.as_str(), &minted.hash)
        );
        for wrong in [
            "",
            "dmk_",
            "dmk_abc",
            "dmp_abc",
            &text[..text.len() - 1],
            &format!("{text}a"),
            "dmk_\u{e9}",
        ] {
            assert!(read_pair(Prefix::ServiceKey, wrong).is_none(), "{wrong}");
        }
        assert!(read_pair(Prefix::PersonalKey, text).is_none());
    }
}
