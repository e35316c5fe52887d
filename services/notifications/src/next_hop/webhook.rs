//! A notification that is sent to a URL: one call, signed as Standard Webhooks 1.x have it.

use dotmac_platform::{
    db::types::Moment,
    egress::{Egress, EgressAnswer, HeaderName, HeaderValue, header::CONTENT_TYPE},
    standard_webhooks::{Signed, public_key, read_seed},
};
use secrecy::{ExposeSecret as _, SecretBox};

use super::{Call, Heard, Verdict, again, heard};

/// The key pair that identifies the sender of notifications to URLs.
pub(crate) struct SigningKey(SecretBox<[u8]>);

impl SigningKey {
    /// `whsk_…`.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let seed = read_seed(text.trim())?;
        public_key(seed.expose_secret())?;
        Some(Self(seed))
    }

    /// What receivers verify with: `whpk_…`.
    pub(crate) fn public(&self) -> Option<String> {
        public_key(self.0.expose_secret())
    }
}

/// The call that hands `body` to the receiver at `url`. `id` is the same for each attempt, so that a receiver knows what it has.
pub(crate) fn call(
    egress: &Egress,
    key: &SigningKey,
    url: &str,
    id: &str,
    body: String,
) -> Result<Call, String> {
    let timestamp = chrono::DateTime::<chrono::Utc>::from(Moment::now()).timestamp();
    let signed = Signed {
        id,
        timestamp,
        body: &body,
    };
    let signature = signed.by_key_pair(key.0.expose_secret());
    let signature = signature.ok_or("the message cannot be signed")?;
    let mut request = egress.post(url);
    for (name, value) in [
        ("webhook-id", id),
        ("webhook-timestamp", &*timestamp.to_string()),
        ("webhook-signature", &*signature),
    ] {
        let value = HeaderValue::from_str(value).map_err(|error| error.to_string())?;
        request = request.header(HeaderName::from_static(name), value);
    }
    let json = HeaderValue::from_static("application/json");
    let request = request.header(CONTENT_TYPE, json).body(body);
    Ok(Call::new(request, true, judge))
}

fn judge(answer: &EgressAnswer) -> Heard {
    let verdict = match answer.status.as_u16() {
        200..=299 => Verdict::Accepted,
        410 => Verdict::Bounced { is_lasting: true },
        _ => again(answer),
    };
    heard(answer, verdict, "")
}
