//! Text messages, by a provider: Twilio, or a gateway of the operator that is called with a signature.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use dotmac_platform::{
    db::types::Moment,
    egress::{
        Egress, EgressAnswer, HeaderName, HeaderValue,
        header::{AUTHORIZATION, CONTENT_TYPE},
    },
    secrets::SecretWatch,
    standard_webhooks::{Signed, read_secret},
};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::json;
use url::{Url, form_urlencoded};

use super::{Call, Heard, Verdict, again, heard, secret};

dotmac_platform::choice! {
    /// The provider that takes text messages.
    pub enum SmsProvider {
        /// Twilio, or what speaks its `Messages` API.
        Twilio = "twilio",
        /// A gateway that takes a signed call.
        Http = "http",
    }
}

/// A telephone number (E.164): `+` and 7 to 15 digits, the first of them not 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Phone(String);

impl Phone {
    /// Reads a number as people write it, with blanks, hyphens, dots and brackets.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() > 40 {
            return None;
        }
        let kept: String = text
            .trim()
            .chars()
            .filter(|it| !matches!(it, ' ' | '-' | '.' | '(' | ')'))
            .collect();
        let digits = kept.strip_prefix('+')?;
        let is_number = (7..=15).contains(&digits.len())
            && digits.bytes().all(|it| it.is_ascii_digit())
            && !digits.starts_with('0');
        is_number.then_some(Self(kept))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The way to the provider that is configured. Clones are the same.
#[derive(Clone)]
pub(crate) struct SmsRoute(pub(crate) Arc<SmsSettings>);

/// What the settings say of it.
pub(crate) struct SmsSettings {
    pub(crate) provider: SmsProvider,
    pub(crate) url: Url,
    /// Twilio's account.
    pub(crate) account: Option<String>,
    /// A number, or a name that the provider knows.
    pub(crate) from: Option<String>,
    pub(crate) secret: SecretWatch,
}

impl SmsRoute {
    /// The call that hands `text` to the provider. `id` is the same for each attempt.
    ///
    /// # Errors
    ///
    /// What of the provider's settings is missing.
    pub(crate) fn call(
        &self,
        egress: &Egress,
        (to, text): (&str, &str),
        id: &str,
    ) -> Result<Call, String> {
        match self.0.provider {
            SmsProvider::Twilio => self.twilio(egress, to, text),
            SmsProvider::Http => self.http(egress, (to, text), id),
        }
    }

    /// Twilio knows no id of ours, so a call that may have arrived is not repeated.
    fn twilio(&self, egress: &Egress, to: &str, text: &str) -> Result<Call, String> {
        let token = self.0.secret.get();
        let token = token.ok_or("DOTMAC_NOTIFICATIONS_SMS_SECRET is not set")?;
        let account = self.0.account.as_deref();
        let account = account.ok_or("DOTMAC_NOTIFICATIONS_SMS_ACCOUNT is not set")?;
        let from = self.0.from.as_deref();
        let from = from.ok_or("DOTMAC_NOTIFICATIONS_SMS_FROM is not set")?;
        let credentials = format!("{account}:{}", token.expose_secret());
        let authorization = secret(&format!("Basic {}", BASE64.encode(credentials)));
        let authorization = authorization.ok_or("the credentials are no header")?;
        let base = self.0.url.as_str().trim_end_matches('/');
        let url = format!("{base}/2010-04-01/Accounts/{account}/Messages.json");
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("To", to)
            .append_pair("From", from)
            .append_pair("Body", text)
            .finish();
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        let request = egress
            .post(url)
            .header(AUTHORIZATION, authorization)
            .header(CONTENT_TYPE, form)
            .body(body);
        Ok(Call::new(request, false, of_twilio))
    }

    fn http(&self, egress: &Egress, (to, text): (&str, &str), id: &str) -> Result<Call, String> {
        let given = self.0.secret.get();
        let given = given.ok_or("DOTMAC_NOTIFICATIONS_SMS_SECRET is not set")?;
        let key = read_secret(given.expose_secret().trim());
        let key = key.ok_or("DOTMAC_NOTIFICATIONS_SMS_SECRET is no secret as `whsec_…`")?;
        let body = json!({ "id": id, "to": to, "from": self.0.from, "text": text }).to_string();
        let timestamp = chrono::DateTime::<chrono::Utc>::from(Moment::now()).timestamp();
        let signed = Signed {
            id,
            timestamp,
            body: &body,
        };
        let signature = signed.by_secret(key.expose_secret());
        let mut request = egress.post(self.0.url.as_str());
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
        Ok(Call::new(request, true, of_gateway))
    }
}

/// What Twilio answers, as far as it matters.
#[derive(Deserialize)]
struct TwilioAnswer {
    sid: Option<String>,
    code: Option<u32>,
    message: Option<String>,
}

fn of_twilio(answer: &EgressAnswer) -> Heard {
    let said: Option<TwilioAnswer> = answer.json().ok();
    let code = said.as_ref().and_then(|it| it.code);
    let verdict = match (answer.status.as_u16(), code) {
        (200..=299, _) => Verdict::Accepted,
        // No such number, one that takes no text messages, one whose owner said STOP.
        (_, Some(21211 | 21614 | 21610)) => Verdict::Bounced { is_lasting: true },
        // Not to that region, not from that number.
        (400..=499, Some(21408 | 21612)) => Verdict::Bounced { is_lasting: false },
        // 401 and 403 are about our account.
        (401 | 403 | 408 | 425 | 429 | 500.., _) => again(answer),
        _ => Verdict::Failed,
    };
    let words = said.map(|it| {
        let code = it.code.map(|code| code.to_string());
        let parts = [it.sid, code, it.message];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    });
    heard(answer, verdict, &words.unwrap_or_default())
}

/// What a gateway answers: docs/services/notifications.md says what each status means.
fn of_gateway(answer: &EgressAnswer) -> Heard {
    let verdict = match answer.status.as_u16() {
        200..=299 => Verdict::Accepted,
        410 => Verdict::Bounced { is_lasting: true },
        400 | 413 | 422 => Verdict::Failed,
        _ => again(answer),
    };
    heard(answer, verdict, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_as_people_write_it() {
        for (text, number) in [
            ("+49 (30) 123-45.67", Some("+49301234567")),
            (" +14155552671 ", Some("+14155552671")),
            ("+1415555", Some("+1415555")),
            ("0301234567", None),
            ("+0301234567", None),
            ("+49301234567890123", None),
            ("+4930", None),
            ("+49301234567\r\nTo: 1", None),
            ("+４９３０１２３４５６７", None),
            ("", None),
        ] {
            let read = Phone::parse(text);
            assert_eq!(read.as_ref().map(Phone::as_str), number, "{text:?}");
        }
    }
}
