//! Access tokens: JWTs (RFC 9068) signed with ES256 or EdDSA, which carry who calls and nothing of what that caller may do.

use std::collections::HashMap;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, Header, crypto, encode,
    jwk::{Jwk, ThumbprintHash},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{AccountsError, settings::TokenAlg};

/// The type of access tokens, which no other token has.
const TYPE: &str = "at+jwt";

/// The longest token that is checked, in bytes.
const LONGEST: usize = 4096;

/// By how much the clocks of instances may differ, in seconds.
const LEEWAY: i64 = 5;

/// What an access token says. No field may be missing, and none has a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) iss: String,
    pub(crate) aud: String,
    pub(crate) sub: Uuid,
    pub(crate) client_id: String,
    pub(crate) iat: i64,
    pub(crate) nbf: i64,
    pub(crate) exp: i64,
    pub(crate) jti: Uuid,
    /// The session.
    pub(crate) sid: Uuid,
    /// The tenant.
    pub(crate) tid: Uuid,
    /// The generation of the refresh token that it came with.
    #[serde(rename = "gen")]
    pub(crate) generation: i64,
    pub(crate) auth_time: i64,
    pub(crate) acr: String,
    pub(crate) amr: Vec<String>,
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Expired,
    Invalid,
    /// No key of that id is known here.
    UnknownKey,
}

/// The head of a token. Fields that name or bring a key (`jku`, `jwk`, `x5u`, `x5c`), and `crit`, are refused like any other.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    alg: String,
    typ: String,
    kid: String,
}

impl TokenAlg {
    /// As tokens and keys name it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Es256, Self::EdDsa]
            .into_iter()
            .find(|alg| alg.name() == name)
    }

    /// That of a key.
    pub(crate) const fn of(family: AlgorithmFamily) -> Option<Self> {
        match family {
            AlgorithmFamily::Ec => Some(Self::Es256),
            AlgorithmFamily::Ed => Some(Self::EdDsa),
            _ => None,
        }
    }

    /// The key whose private part that is, as PKCS #8.
    pub(crate) fn private_key(self, pkcs8: &[u8]) -> EncodingKey {
        match self {
            Self::Es256 => EncodingKey::from_ec_der(pkcs8),
            Self::EdDsa => EncodingKey::from_ed_der(pkcs8),
        }
    }

    const fn algorithm(self) -> Algorithm {
        match self {
            Self::Es256 => Algorithm::ES256,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }
}

/// A new key: its private part as PKCS #8, and its public one.
pub(crate) struct NewKey {
    pub(crate) alg: TokenAlg,
    pub(crate) pkcs8: Zeroizing<Vec<u8>>,
    pub(crate) jwk: Jwk,
    pub(crate) kid: String,
}

impl NewKey {
    pub(crate) fn generate(alg: TokenAlg) -> Result<Self, AccountsError> {
        let random = SystemRandom::new();
        let made = match alg {
            TokenAlg::Es256 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            }
            TokenAlg::EdDsa => Ed25519KeyPair::generate_pkcs8v1(&random),
        };
        let made = made.map_err(|_| AccountsError::NoRandom)?;
        let pkcs8 = Zeroizing::new(made.as_ref().to_vec());
        let key = alg.private_key(&pkcs8);
        let jwk =
            Jwk::from_encoding_key(&key, alg.algorithm()).map_err(|_| AccountsError::Signing)?;
        let kid = jwk
            .thumbprint(ThumbprintHash::SHA256)
            .map_err(|_| AccountsError::Signing)?;
        let mut jwk = jwk;
        jwk.common.key_id = Some(kid.clone());
        Ok(Self {
            alg,
            pkcs8,
            jwk,
            kid,
        })
    }
}

/// `claims` as a token.
pub(crate) fn sign(kid: &str, key: &EncodingKey, claims: &Claims) -> Result<String, AccountsError> {
    let alg = TokenAlg::of(key.family()).ok_or(AccountsError::Signing)?;
    let mut header = Header::new(alg.algorithm());
    header.typ = Some(TYPE.to_owned());
    header.kid = Some(kid.to_owned());
    encode(&header, claims, key).map_err(|_| AccountsError::Signing)
}

/// What `token` says, if one of `keys` signed it for `issuer` and `audience`, and it is neither over nor of the future.
pub(crate) fn verify(
    token: &str,
    keys: &HashMap<String, DecodingKey>,
    issuer: &str,
    audience: &str,
) -> Result<Claims, Refusal> {
    if token.len() > LONGEST {
        return Err(Refusal::Invalid);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(Refusal::Invalid)?;
    let (head, claims) = signed.split_once('.').ok_or(Refusal::Invalid)?;
    let head: Head = part(head)?;
    let alg = TokenAlg::named(&head.alg).filter(|_| head.typ == TYPE);
    let alg = alg.ok_or(Refusal::Invalid)?;
    let key = keys.get(&head.kid).ok_or(Refusal::UnknownKey)?;
    // The algorithm is that of the key, whatever the token says.
    if TokenAlg::of(key.family()) != Some(alg) {
        return Err(Refusal::Invalid);
    }
    let is_signed = crypto::verify(signature, signed.as_bytes(), key, alg.algorithm());
    if !matches!(is_signed, Ok(true)) {
        return Err(Refusal::Invalid);
    }
    let claims: Claims = part(claims)?;
    let now = chrono::Utc::now().timestamp();
    if claims.iss != issuer || claims.aud != audience || claims.nbf > now + LEEWAY {
        return Err(Refusal::Invalid);
    }
    if claims.exp < now - LEEWAY {
        return Err(Refusal::Expired);
    }
    Ok(claims)
}

/// The JSON that a part of a token encodes.
fn part<T: DeserializeOwned>(text: &str) -> Result<T, Refusal> {
    let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| Refusal::Invalid)?;
    serde_json::from_slice(&json).map_err(|_| Refusal::Invalid)
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn claims() -> Claims {
        let now = chrono::Utc::now().timestamp();
        Claims {
            iss: "https://a.example".to_owned(),
            aud: "dotmac".to_owned(),
            sub: Uuid::from_u128(1),
            client_id: "dotmac".to_owned(),
            iat: now,
            nbf: now,
            exp: now + 60,
            jti: Uuid::from_u128(2),
            sid: Uuid::from_u128(3),
            tid: Uuid::from_u128(4),
            generation: 1,
            auth_time: now,
            acr: "1".to_owned(),
            amr: vec!["pwd".to_owned()],
        }
    }

    fn key() -> (String, EncodingKey, HashMap<String, DecodingKey>) {
        key_of(TokenAlg::Es256)
    }

    fn key_of(alg: TokenAlg) -> (String, EncodingKey, HashMap<String, DecodingKey>) {
        let new = NewKey::generate(alg).expect("a key");
        let public = DecodingKey::from_jwk(&new.jwk).expect("a public key");
        let keys = HashMap::from([(new.kid.clone(), public)]);
        (new.kid.clone(), alg.private_key(&new.pkcs8), keys)
    }

    #[test]
    fn a_token_is_checked_by_the_algorithm_of_its_key() {
        let (one, first, mut keys) = key_of(TokenAlg::EdDsa);
        let (other, second, more) = key_of(TokenAlg::Es256);
        keys.extend(more);
        for (kid, private) in [(&one, &first), (&other, &second)] {
            let token = sign(kid, private, &claims()).expect("signed");
            assert_eq!(check(&token, &keys), Ok(claims()));
        }
        // Signed by one key in the name of the other.
        for (kid, private) in [(&one, &second), (&other, &first)] {
            let token = sign(kid, private, &claims()).expect("signed");
            assert_eq!(check(&token, &keys), Err(Refusal::Invalid));
        }
    }

    fn check(token: &str, keys: &HashMap<String, DecodingKey>) -> Result<Claims, Refusal> {
        verify(token, keys, "https://a.example", "dotmac")
    }

    #[test]
    fn a_token_of_ours_is_accepted_for_its_issuer_audience_and_time() {
        let (kid, private, keys) = key();
        let token = sign(&kid, &private, &claims()).expect("signed");
        assert_eq!(check(&token, &keys), Ok(claims()));
        assert_eq!(
            verify(&token, &keys, "https://b.example", "dotmac"),
            Err(Refusal::Invalid)
        );
        assert_eq!(
            verify(&token, &keys, "https://a.example", "other"),
            Err(Refusal::Invalid)
        );
        let now = chrono::Utc::now().timestamp();
        for (changed, expected) in [
            (
                Claims {
                    exp: now - 6,
                    ..claims()
                },
                Err(Refusal::Expired),
            ),
            (
                Claims {
                    nbf: now + 60,
                    ..claims()
                },
                Err(Refusal::Invalid),
            ),
        ] {
            let token = sign(&kid, &private, &changed).expect("signed");
            assert_eq!(check(&token, &keys), expected);
        }
    }

    #[test]
    fn forged_tokens_are_refused() {
        let (kid, private, keys) = key();
        let good = sign(&kid, &private, &claims()).expect("signed");
        let parts: Vec<&str> = good.split('.').collect();
        let text = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let with_head = |head: Value| format!("{}.{}.{}", text(&head), parts[1], parts[2]);
        let (_, other, _) = key();
        let mut admin = serde_json::to_value(claims()).expect("JSON");
        admin["sub"] = json!(Uuid::from_u128(9));
        let forged = [
            with_head(json!({"alg": "none", "typ": TYPE, "kid": kid})),
            format!(
                "{}.{}.",
                text(&json!({"alg": "none", "typ": TYPE, "kid": kid})),
                parts[1]
            ),
            with_head(json!({"alg": "HS256", "typ": TYPE, "kid": kid})),
            with_head(json!({"alg": "ES256", "typ": "JWT", "kid": kid})),
            with_head(json!({"alg": "ES256", "typ": TYPE})),
            with_head(
                json!({"alg": "ES256", "typ": TYPE, "kid": kid, "jku": "https://evil.example"}),
            ),
            with_head(json!({"alg": "ES256", "typ": TYPE, "kid": kid, "crit": ["exp"]})),
            format!("{}.{}.{}", parts[0], text(&admin), parts[2]),
            sign(&kid, &other, &claims()).expect("signed"),
            good[..good.len() - 2].to_owned(),
            String::new(),
            "a.b.c".to_owned(),
            "x".repeat(5000),
        ];
        let unknown = with_head(json!({"alg": "ES256", "typ": TYPE, "kid": "other"}));
        assert_eq!(check(&unknown, &keys), Err(Refusal::UnknownKey));
        for token in forged {
            assert_eq!(check(&token, &keys), Err(Refusal::Invalid), "{token}");
        }
        // Signed by us, but no access token of this kind.
        for missing in [
            "sid",
            "tid",
            "gen",
            "acr",
            "amr",
            "auth_time",
            "jti",
            "exp",
            "nbf",
            "iss",
            "aud",
            "sub",
            "iat",
            "client_id",
        ] {
            let mut without = serde_json::to_value(claims()).expect("JSON");
            without.as_object_mut().expect("an object").remove(missing);
            let mut header = Header::new(Algorithm::ES256);
            header.typ = Some(TYPE.to_owned());
            header.kid = Some(kid.clone());
            let token = encode(&header, &without, &private).expect("signed");
            assert!(check(&token, &keys).is_err(), "without {missing}");
        }
    }
}
