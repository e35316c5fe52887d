//! What a delivery is signed with: secrets that are made here, and signatures by all that count at the time. The signatures
//! themselves are those of `dotmac_platform::standard_webhooks`.

use aws_lc_rs::rand;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use dotmac_platform::standard_webhooks::{Signed, public_key};
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::store::states::Signing;

/// Bytes of a secret, and of the seed of a key pair. The standard wants 24 to 64.
const SECRET_BYTES: usize = 32;

/// The system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes")]
pub(crate) struct NoRandom;

/// A secret that was just made.
pub(crate) struct NewSecret {
    /// What is sealed and signed with.
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    /// What the receiver is shown once: `whsec_…`, or of a key pair `whpk_…`.
    pub(crate) shown: SecretString,
    /// Of a key pair, the same: it may be shown again.
    pub(crate) public_key: Option<String>,
}

impl NewSecret {
    pub(crate) fn make(signing: Signing) -> Result<Self, NoRandom> {
        let mut bytes = Zeroizing::new(vec![0; SECRET_BYTES]);
        rand::fill(&mut bytes).map_err(|_| NoRandom)?;
        Ok(match signing {
            Signing::Hmac => {
                let text = Zeroizing::new(BASE64.encode(&*bytes));
                Self {
                    shown: format!("whsec_{}", *text).into(),
                    public_key: None,
                    bytes,
                }
            }
            Signing::Ed25519 => {
                let public = public_key(&bytes).ok_or(NoRandom)?;
                Self {
                    shown: public.clone().into(),
                    public_key: Some(public),
                    bytes,
                }
            }
        })
    }
}

/// The value of `webhook-signature`: a signature by each of `secrets`, with blanks between. What is no secret of that kind signs
/// nothing.
pub(crate) fn sign<'s>(
    signing: Signing,
    secrets: impl IntoIterator<Item = &'s [u8]>,
    (id, timestamp, body): (&str, i64, &str),
) -> String {
    let signed = Signed {
        id,
        timestamp,
        body,
    };
    let signatures = secrets.into_iter().filter_map(|secret| match signing {
        Signing::Hmac => Some(signed.by_secret(secret)),
        Signing::Ed25519 => signed.by_key_pair(secret),
    });
    signatures.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
    use secrecy::ExposeSecret as _;

    use super::*;

    /// The example of the standard, and of the tests of its libraries.
    #[test]
    fn the_example_of_the_standard_has_the_signature_that_it_says() {
        let secret = BASE64.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let sent = (
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        let one = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(sign(Signing::Hmac, [&*secret], sent), one);
        let both = sign(Signing::Hmac, [&*secret, b"other"], sent);
        assert!(both.starts_with(&format!("{one} v1,")) && both.len() == 2 * one.len() + 1);
    }

    #[test]
    fn what_a_key_pair_signs_its_public_key_verifies() {
        let secret = NewSecret::make(Signing::Ed25519).unwrap();
        let shown = secret.shown.expose_secret();
        assert_eq!(Some(shown), secret.public_key.as_deref());
        let public = BASE64.decode(shown.strip_prefix("whpk_").unwrap()).unwrap();
        let signed = sign(Signing::Ed25519, [&**secret.bytes], ("a", 7, "{}"));
        let signature = BASE64.decode(signed.strip_prefix("v1a,").unwrap()).unwrap();
        let key = UnparsedPublicKey::new(&ED25519, public);
        assert!(key.verify(b"a.7.{}", &signature).is_ok());
        assert!(key.verify(b"a.8.{}", &signature).is_err());
    }

    #[test]
    fn a_secret_is_as_long_as_the_standard_wants_and_never_the_same() {
        let (one, other) = (
            NewSecret::make(Signing::Hmac),
            NewSecret::make(Signing::Hmac),
        );
        let (one, other) = (one.unwrap(), other.unwrap());
        let text = one.shown.expose_secret().strip_prefix("whsec_").unwrap();
        assert_eq!(BASE64.decode(text).unwrap(), **one.bytes);
        assert!((24..=64).contains(&one.bytes.len()));
        assert_ne!(one.bytes, other.bytes);
    }
}
