//! Push messages to browsers: VAPID (RFC 8292) identifies their sender, and the push service hands them on (RFC 8030).

use aws_lc_rs::{
    agreement::{ECDH_P256, PrivateKey},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use dotmac_platform::{
    db::types::Moment,
    egress::{
        Egress, EgressAnswer, HeaderName, HeaderValue,
        header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE},
    },
};
use serde_json::json;
use url::Url;

use super::{Call, Heard, ReceiverKeys, Verdict, again, heard, secret};

/// How long a token is good: at most 24 h (RFC 8292, 2).
const TOKEN: i64 = 12 * 3600;
/// How long a push service keeps a message for a browser that is away, unless it expires before.
const KEPT: i64 = 24 * 3600;

/// The key pair that identifies the sender of push messages. Browsers bind their subscriptions to it.
pub(crate) struct VapidKey {
    pair: EcdsaKeyPair,
    public: String,
}

impl VapidKey {
    /// The private key as tools for web push write it: 32 bytes, base64url.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let private =
            zeroize::Zeroizing::new(BASE64.decode(text.trim().trim_end_matches('=')).ok()?);
        let agreeing = PrivateKey::from_private_key(&ECDH_P256, &private).ok()?;
        let public = agreeing.compute_public_key().ok()?;
        let pair = EcdsaKeyPair::from_private_key_and_public_key(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &private,
            public.as_ref(),
        );
        Some(Self {
            pair: pair.ok()?,
            public: BASE64.encode(public.as_ref()),
        })
    }

    /// The public key as browsers take it, `applicationServerKey`: base64url.
    pub(crate) fn public(&self) -> &str {
        &self.public
    }

    /// The value of `Authorization` for a push service.
    fn authorization(&self, endpoint: &Url, contact: Option<&str>, now: i64) -> Option<String> {
        let mut claims = json!({
            "aud": endpoint.origin().ascii_serialization(),
            "exp": now + TOKEN,
        });
        if let Some(contact) = contact {
            claims["sub"] = contact.into();
        }
        let head = BASE64.encode(r#"{"typ":"JWT","alg":"ES256"}"#);
        let signed = format!("{head}.{}", BASE64.encode(claims.to_string()));
        let signature = self
            .pair
            .sign(&SystemRandom::new(), signed.as_bytes())
            .ok()?;
        let token = format!("{signed}.{}", BASE64.encode(signature.as_ref()));
        Some(format!("vapid t={token}, k={}", self.public))
    }
}

/// What is sent to a browser, and how soon it matters.
pub(crate) struct PushMessage<'a> {
    pub(crate) text: &'a str,
    /// It is of no use after that.
    pub(crate) expires_at: Option<Moment>,
    pub(crate) urgency: &'static str,
}

/// The call of a push service that hands `message` to a browser. A message that is sent twice is shown twice.
pub(crate) fn call(
    egress: &Egress,
    key: &VapidKey,
    contact: Option<&str>,
    (endpoint, keys): (&str, &ReceiverKeys),
    message: &PushMessage<'_>,
) -> Result<Call, String> {
    let url = Url::parse(endpoint).map_err(|_| "the subscription has no address")?;
    let body = keys.encrypt(message.text.as_bytes());
    let body = body.map_err(|error| error.to_string())?;
    let now = seconds(Moment::now());
    let left = message.expires_at.map_or(KEPT, |it| seconds(it) - now);
    let authorization = key.authorization(&url, contact, now);
    let authorization = authorization.as_deref().and_then(secret);
    let authorization = authorization.ok_or("the token for the push service cannot be made")?;
    let ttl = HeaderValue::from(left.clamp(0, KEPT));
    let request = egress
        .post(endpoint)
        .header(AUTHORIZATION, authorization)
        .header(
            CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        )
        .header(CONTENT_ENCODING, HeaderValue::from_static("aes128gcm"))
        .header(HeaderName::from_static("ttl"), ttl)
        .header(
            HeaderName::from_static("urgency"),
            HeaderValue::from_static(message.urgency),
        )
        .body(body);
    Ok(Call::new(request, false, judge))
}

fn seconds(at: Moment) -> i64 {
    chrono::DateTime::<chrono::Utc>::from(at).timestamp()
}

fn judge(answer: &EgressAnswer) -> Heard {
    let verdict = match answer.status.as_u16() {
        200..=299 => Verdict::Accepted,
        // The browser's subscription is over (RFC 8030, 7.3).
        404 | 410 => Verdict::Bounced { is_lasting: false },
        // 401 is about our token, and says nothing of the message.
        401 | 408 | 425 | 429 | 500.. => again(answer),
        _ => Verdict::Failed,
    };
    heard(answer, verdict, "")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    /// The key of RFC 8291's application server.
    const PRIVATE: &str = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw";
    const PUBLIC: &str =
        "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8";

    #[test]
    fn a_token_is_for_one_push_service_and_verifies_by_the_public_key() {
        let key = VapidKey::read(PRIVATE).unwrap();
        assert_eq!(key.public(), PUBLIC);
        let endpoint = Url::parse("https://push.example:8443/send/secret").unwrap();
        let value = key.authorization(&endpoint, Some("mailto:a@example.com"), 1000);
        let value = value.unwrap();
        let (token, given) = value
            .strip_prefix("vapid t=")
            .unwrap()
            .split_once(", k=")
            .unwrap();
        assert_eq!(given, PUBLIC);
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let (head, claims) = signed.split_once('.').unwrap();
        let claims = BASE64.decode(claims).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(
            claims,
            json!({ "aud": "https://push.example:8443", "exp": 44_200, "sub": "mailto:a@example.com" })
        );
        assert!(
            String::from_utf8(BASE64.decode(head).unwrap())
                .unwrap()
                .contains("ES256")
        );
        let public =
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, BASE64.decode(PUBLIC).unwrap());
        let signature = BASE64.decode(signature).unwrap();
        assert!(public.verify(signed.as_bytes(), &signature).is_ok());
        assert!(public.verify(b"another", &signature).is_err());
    }

    #[test]
    fn what_is_no_private_key_is_none() {
        for wrong in ["", "AAAA", "a b", PUBLIC, "whsk_AAAA"] {
            assert!(VapidKey::read(wrong).is_none(), "{wrong}");
        }
        assert!(VapidKey::read(&format!(" {PRIVATE}=\n")).is_some());
    }
}
