//! Message encryption for web push (RFC 8291, with `aes128gcm` of RFC 8188): only the browser reads what is sent to it.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree},
    hkdf::{HKDF_SHA256, KeyType, Salt},
    rand,
};
use zeroize::Zeroizing;

/// Bytes of a public key: a point of P-256, uncompressed.
pub(crate) const PUBLIC_KEY: usize = 65;
/// Bytes of the secret that a browser shares with those that may send to it.
pub(crate) const AUTH_SECRET: usize = 16;
/// The most bytes that fit: a push service takes 4096, of which header, padding and tag take 103 (RFC 8291, 4).
pub(crate) const MOST_TEXT: usize = 3993;
/// The size of a record, which a message does not fill.
const RECORD: u32 = 4096;

/// The keys of a browser.
pub(crate) struct ReceiverKeys {
    pub(crate) public: [u8; PUBLIC_KEY],
    pub(crate) auth: Zeroizing<[u8; AUTH_SECRET]>,
}

/// Nothing of the keys.
impl fmt::Debug for ReceiverKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReceiverKeys")
    }
}

/// The message cannot be encrypted: it is too long, or the browser's key is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message cannot be encrypted for the browser")]
pub(crate) struct NotEncrypted;

impl ReceiverKeys {
    /// Whether the public key is a point of the curve.
    pub(crate) fn are_sound(&self) -> bool {
        self.encrypt(b"").is_ok()
    }

    /// `text` as the body of a request to the push service.
    pub(crate) fn encrypt(&self, text: &[u8]) -> Result<Vec<u8>, NotEncrypted> {
        let private = PrivateKey::generate(&ECDH_P256).map_err(|_| NotEncrypted)?;
        let mut salt = [0; 16];
        rand::fill(&mut salt).map_err(|_| NotEncrypted)?;
        self.encrypt_with(&private, salt, text)
    }

    fn encrypt_with(
        &self,
        private: &PrivateKey,
        salt: [u8; 16],
        text: &[u8],
    ) -> Result<Vec<u8>, NotEncrypted> {
        if text.len() > MOST_TEXT {
            return Err(NotEncrypted);
        }
        let mine = private.compute_public_key().map_err(|_| NotEncrypted)?;
        let theirs = UnparsedPublicKey::new(&ECDH_P256, &self.public[..]);
        let material = agree(private, theirs, NotEncrypted, |shared| {
            let info: [&[u8]; 3] = [b"WebPush: info\0", &self.public, mine.as_ref()];
            derive::<32>(&*self.auth, shared, &info)
        })?;
        let key = derive::<16>(&salt, &*material, &[b"Content-Encoding: aes128gcm\0"])?;
        let nonce = derive::<12>(&salt, &*material, &[b"Content-Encoding: nonce\0"])?;
        let key = UnboundKey::new(&AES_128_GCM, &*key).map_err(|_| NotEncrypted)?;
        // The last record ends with 2.
        let mut sealed = [text, &[2]].concat();
        LessSafeKey::new(key)
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(*nonce),
                Aad::empty(),
                &mut sealed,
            )
            .map_err(|_| NotEncrypted)?;
        let mut body = salt.to_vec();
        body.extend(RECORD.to_be_bytes());
        body.push(u8::try_from(mine.as_ref().len()).map_err(|_| NotEncrypted)?);
        body.extend(mine.as_ref());
        body.extend(sealed);
        Ok(body)
    }
}

/// Bytes of a derived key.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF with SHA-256 (RFC 5869).
fn derive<const N: usize>(
    salt: &[u8],
    material: &[u8],
    info: &[&[u8]],
) -> Result<Zeroizing<[u8; N]>, NotEncrypted> {
    let mut derived = Zeroizing::new([0; N]);
    let key = Salt::new(HKDF_SHA256, salt).extract(material);
    let expanded = key.expand(info, Length(N)).map_err(|_| NotEncrypted)?;
    expanded.fill(&mut *derived).map_err(|_| NotEncrypted)?;
    Ok(derived)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};

    use super::*;

    fn bytes<const N: usize>(text: &str) -> [u8; N] {
        BASE64.decode(text).unwrap().try_into().unwrap()
    }

    fn keys() -> ReceiverKeys {
        ReceiverKeys {
            public: bytes(
                "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
            ),
            auth: Zeroizing::new(bytes("BTBZMqHH6r4Tts7J_aSIgg")),
        }
    }

    /// RFC 8291, appendix A.
    #[test]
    fn the_example_of_the_standard_is_encrypted_as_it_says() {
        let private: [u8; 32] = bytes("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw");
        let private = PrivateKey::from_private_key(&ECDH_P256, &private).unwrap();
        let text = b"When I grow up, I want to be a watermelon";
        let body = keys().encrypt_with(&private, bytes("DGv6ra1nlYgDCS1FRnbzlw"), text);
        assert_eq!(
            BASE64.encode(body.unwrap()),
            "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
        );
    }

    #[test]
    fn what_is_too_long_or_for_no_key_is_not_encrypted() {
        assert_eq!(keys().encrypt(&vec![0; MOST_TEXT]).unwrap().len(), 4096);
        assert_eq!(keys().encrypt(&vec![0; MOST_TEXT + 1]), Err(NotEncrypted));
        let mut wrong = keys();
        wrong.public[40] ^= 1;
        assert!(!wrong.are_sound() && keys().are_sound());
    }
}
