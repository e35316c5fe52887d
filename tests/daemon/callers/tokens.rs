//! Access tokens that a test signs, with a key that the daemon accepts.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::house::{Credentials, House};
use crate::support::{Postgres, eventually, sqlite};

const KID: &str = "of-the-test";

/// A key whose public part is in the table of the daemon's keys.
pub(super) struct Signer(EcdsaKeyPair);

impl Signer {
    /// A new key. No instance signs with it, since none can open what stands in the place of its private part.
    pub(super) async fn known_to(house: &House, postgres: Option<&Postgres>) -> Self {
        let (random, alg) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let made = EcdsaKeyPair::generate_pkcs8(alg, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(alg, made.as_ref()).unwrap();
        // 4, then the coordinates.
        let point = pair.public_key().as_ref();
        let jwk = json!({
            "kty": "EC", "crv": "P-256", "kid": KID, "use": "sig", "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]),
        });
        let added = format!(
            "INSERT INTO signing_keys (id, kid, alg, public_jwk, private_enc, created_at, activate_at) \
             SELECT '01900000-0000-7000-8000-0000000000dd', '{KID}', 'ES256', '{jwk}', \
             private_enc, created_at, activate_at FROM signing_keys LIMIT 1; \
             INSERT INTO accounts_changes (kind, subject, at) \
             SELECT 'keys', id, created_at FROM signing_keys LIMIT 1"
        );
        match postgres {
            Some(postgres) => drop(postgres.query(&added).await),
            None => sqlite::execute(&house.daemon.directory().join("dotmac.db"), &added),
        }
        Self(pair)
    }

    /// The token with another end, in seconds from now.
    fn ending(&self, token: &str, seconds: i64) -> String {
        let claims = token.split('.').nth(1).unwrap();
        let claims = URL_SAFE_NO_PAD.decode(claims).unwrap();
        let mut claims: Value = serde_json::from_slice(&claims).unwrap();
        claims["exp"] = json!(chrono::Utc::now().timestamp() + seconds);
        for begin in ["iat", "nbf"] {
            claims[begin] = json!(chrono::Utc::now().timestamp() - 3600);
        }
        let head = json!({ "alg": "ES256", "typ": "at+jwt", "kid": KID });
        let encoded = [head, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = encoded.join(".");
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(signature.unwrap());
        format!("{signed}.{signature}")
    }

    /// The token as it is once its time is over: past it by more than the leeway for clocks.
    pub(super) async fn expired(&self, house: &House, token: &str) -> String {
        let valid = self.ending(token, 600);
        // Nothing else is wrong with it.
        eventually("the key of the test to be known", || async {
            let me = house.get("/auth/me", Credentials::Bearer(&valid)).await;
            (me.0 == 200).then_some(())
        })
        .await;
        self.ending(token, -10)
    }
}
