//! Standard Webhooks 1.x: secrets, keys and signatures, for senders whose receivers verify, and for
//! routes that take what others sign ([`SignedBody`](crate::routing::SignedBody)).
//!
//! Signed is `id.timestamp.body`. A shared secret is written `whsec_` and base64, its signature `v1,` and base64 of HMAC-SHA256; of
//! a key pair the sender has `whsk_` and base64, the receiver `whpk_` and base64, and the signature is `v1a,` and base64 of
//! Ed25519.

use aws_lc_rs::{
    hmac,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use secrecy::SecretBox;

/// Bytes of the seed of a key pair.
const SEED: usize = 32;
/// Signatures that are checked: one by each secret, during a rotation.
const MOST_SIGNATURES: usize = 8;
/// Bytes that a shared secret may have.
const SHARED: std::ops::RangeInclusive<usize> = 24..=64;

/// The signed content.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// `webhook-id`: the same for each attempt, by which a receiver knows a message that comes twice.
    pub id: &'a str,
    /// `webhook-timestamp`: the time of the attempt, in seconds since 1970.
    pub timestamp: i64,
    /// The body.
    pub body: &'a str,
}

impl Signed<'_> {
    fn text(&self) -> String {
        format!("{}.{}.{}", self.id, self.timestamp, self.body)
    }

    /// Its signature by a shared secret: `v1,…`.
    #[must_use]
    pub fn by_secret(&self, secret: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let tag = hmac::sign(&key, self.text().as_bytes());
        format!("v1,{}", BASE64.encode(tag))
    }

    /// Its signature by the key pair of `seed`: `v1a,…`; `None` if that is no seed.
    #[must_use]
    pub fn by_key_pair(&self, seed: &[u8]) -> Option<String> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let signature = pair.sign(self.text().as_bytes());
        Some(format!("v1a,{}", BASE64.encode(signature)))
    }
}

/// Whether one of `signatures`, the value of the header `webhook-signature`, is right: of `id.timestamp.body` by a shared
/// secret. `timestamp` is the header as it came. The comparison takes as long for a wrong signature as for a right one.
#[must_use]
pub fn is_signed_by(
    secret: &[u8],
    (id, timestamp): (&str, &str),
    body: &[u8],
    signatures: &str,
) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    let tags = signatures.split(' ').take(MOST_SIGNATURES);
    let mut tags = tags.filter_map(|it| BASE64.decode(it.strip_prefix("v1,")?).ok());
    tags.any(|tag| hmac::verify(&key, &signed, &tag).is_ok())
}

/// The public key of a key pair, as receivers are given it: `whpk_…`; `None` if `seed` is none.
#[must_use]
pub fn public_key(seed: &[u8]) -> Option<String> {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
    Some(format!("whpk_{}", BASE64.encode(pair.public_key())))
}

/// A shared secret as it is written, `whsec_…`; `None` if it is none.
#[must_use]
pub fn read_secret(text: &str) -> Option<SecretBox<[u8]>> {
    let bytes = BASE64.decode(text.strip_prefix("whsec_")?).ok()?;
    SHARED.contains(&bytes.len()).then(|| bytes.into())
}

/// The seed of a key pair as it is written, `whsk_…`, with or without the public key behind it; `None` if it is none.
#[must_use]
pub fn read_seed(text: &str) -> Option<SecretBox<[u8]>> {
    let mut bytes = BASE64.decode(text.strip_prefix("whsk_")?).ok()?;
    let is_one = matches!(bytes.len(), SEED | 64);
    bytes.truncate(SEED);
    is_one.then(|| bytes.into())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
    use secrecy::ExposeSecret as _;

    use super::*;

    const EXAMPLE: Signed<'static> = Signed {
        id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp: 1_614_265_330,
        body: r#"{"test": 2432232314}"#,
    };

    /// The example of the standard, and of the tests of its libraries.
    #[test]
    fn the_example_of_the_standard_has_the_signature_that_it_says() {
        let secret = read_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(
            EXAMPLE.by_secret(secret.expose_secret()),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        for wrong in [
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_%",
            "whsec_AAAA",
            "",
        ] {
            assert!(read_secret(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn what_was_signed_is_verified_and_nothing_else() {
        let secret = read_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let right = EXAMPLE.by_secret(secret.expose_secret());
        let place = (EXAMPLE.id, "1614265330");
        let body = EXAMPLE.body.as_bytes();
        let is_right = |place, body, signatures: &str| {
            is_signed_by(secret.expose_secret(), place, body, signatures)
        };
        assert!(is_right(place, body, &right));
        assert!(is_right(place, body, &format!("v1,AAAA v1a,BBBB {right}")));
        assert!(!is_right(("other", place.1), body, &right));
        assert!(!is_right((place.0, "1614265331"), body, &right));
        assert!(!is_right(place, b"other", &right));
        for wrong in ["", "v1,", "v1", "v2,AAAA", &right[3..], &right[..20]] {
            assert!(!is_right(place, body, wrong), "{wrong}");
        }
        let ninth = format!("{} {right}", ["v1,AAAA"; 8].join(" "));
        assert!(!is_right(place, body, &ninth));
        assert!(!is_signed_by(
            b"another secret of 24 bytes",
            place,
            body,
            &right
        ));
    }

    #[test]
    fn what_a_key_pair_signs_its_public_key_verifies() {
        let seed = [7; SEED];
        let written = format!("whsk_{}", BASE64.encode([seed, [0; SEED]].concat()));
        let read = read_seed(&written).unwrap();
        assert_eq!(read.expose_secret(), seed);
        let public = public_key(&seed).unwrap();
        let public = BASE64
            .decode(public.strip_prefix("whpk_").unwrap())
            .unwrap();
        let signature = EXAMPLE.by_key_pair(&seed).unwrap();
        let signature = BASE64
            .decode(signature.strip_prefix("v1a,").unwrap())
            .unwrap();
        let key = UnparsedPublicKey::new(&ED25519, public);
        assert!(key.verify(EXAMPLE.text().as_bytes(), &signature).is_ok());
        assert!(key.verify(b"another", &signature).is_err());
        assert!(read_seed("whsk_AAAA").is_none() && public_key(b"short").is_none());
    }
}
