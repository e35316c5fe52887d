//! One attempt: signed, sent by the guarded client, and judged by what the receiver answered.

use std::time::{Duration, Instant};

use dotmac_platform::{
    db::types::Moment,
    delivery::{Attempt, continue_trace, retry_after},
    egress::{
        EgressAnswer, EgressError, HeaderName, HeaderValue,
        header::{CONTENT_TYPE, RETRY_AFTER},
    },
};
use tracing::{Instrument as _, field, info_span};

use super::parcel::{self, Parcel};
use crate::{WebhooksError, metrics, service::Service, signing::sign, store::claims::Claimed};

/// What an attempt means for its delivery and for the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The receiver has it.
    Delivered,
    /// It does not, and another attempt may succeed; not before that time is over.
    Again(Option<Duration>),
    /// It does not, and another attempt is of no use.
    Never,
    /// It is gone for good: 410.
    Gone,
    /// We could not try: no failure of the receiver.
    Untried,
}

/// An attempt that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) claimed: Claimed,
    pub(crate) attempt: Attempt,
    pub(crate) took: Duration,
    pub(crate) verdict: Verdict,
    /// Of 429 and 503: the pause that the receiver asks for.
    pub(crate) asked: Option<Duration>,
}

impl Ended {
    /// One whose task panicked: no failure of the receiver, and tried again as if it were.
    pub(super) fn panicked(claimed: Claimed, began: Instant) -> Self {
        let took = began.elapsed();
        tracing::error!(delivery = %claimed.id, "sending a webhook panicked");
        Self {
            claimed,
            attempt: Attempt::failed(Moment::now(), took, "internal: sending failed"),
            took,
            verdict: Verdict::Again(None),
            asked: None,
        }
    }
}

/// Sends a delivery once.
pub(super) async fn send(on: &Service, parcel: Parcel) -> Ended {
    let span = info_span!(
        parent: None, "webhook", otel.name = "webhook send", otel.kind = "producer", otel.status_code = field::Empty,
        webhook.delivery = %parcel.claimed.id, webhook.endpoint = %parcel.claimed.endpoint_id,
        webhook.event = parcel.message.kind, webhook.attempt = parcel.claimed.attempts,
    );
    if let Some(cause) = &parcel.message.traceparent {
        continue_trace(&span, cause);
    }
    let (at, began) = (Moment::now(), Instant::now());
    let sent = call(on, &parcel, at).instrument(span.clone()).await;
    let took = began.elapsed();
    let (attempt, verdict, asked) = judge(sent, at, took);
    if verdict != Verdict::Delivered {
        span.record("otel.status_code", "ERROR");
    }
    metrics::attempted(verdict, &attempt, took);
    Ended {
        claimed: parcel.claimed,
        attempt,
        took,
        verdict,
        asked,
    }
}

/// Why there is no answer.
enum Unanswered {
    Egress(EgressError),
    /// The body was larger than bodies may be when the delivery was made.
    TooLarge,
    /// Its secrets or headers do not open.
    Sealed(WebhooksError),
}

impl From<WebhooksError> for Unanswered {
    fn from(error: WebhooksError) -> Self {
        Self::Sealed(error)
    }
}

async fn call(on: &Service, parcel: &Parcel, at: Moment) -> Result<EgressAnswer, Unanswered> {
    let Parcel {
        claimed,
        endpoint,
        message,
    } = parcel;
    if message.payload.is_empty() {
        return Err(Unanswered::TooLarge);
    }
    let id = claimed.message_id.to_string();
    let timestamp = chrono::DateTime::<chrono::Utc>::from(at).timestamp();
    let signature = {
        let secrets = endpoint.open_secrets(&on.sealer)?;
        let signed = (&*id, timestamp, &*message.payload);
        sign(endpoint.row.signing, parcel::exposed(&secrets), signed)
    };
    let mut request = on
        .egress
        .post(&endpoint.row.url)
        .timeout(on.settings.timeout)
        .cut_answer();
    for (name, value) in endpoint.open_headers(&on.sealer)? {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(mut value)) = (name, HeaderValue::from_str(&value)) {
            value.set_sensitive(true);
            request = request.header(name, value);
        }
    }
    let own = [
        ("webhook-id", id),
        ("webhook-timestamp", timestamp.to_string()),
        ("webhook-signature", signature),
    ];
    for (name, value) in own {
        if let Ok(value) = HeaderValue::from_str(&value) {
            request = request.header(HeaderName::from_static(name), value);
        }
    }
    let json = HeaderValue::from_static("application/json");
    let request = request
        .header(CONTENT_TYPE, json)
        .body(message.payload.clone());
    request.send().await.map_err(Unanswered::Egress)
}

fn judge(
    sent: Result<EgressAnswer, Unanswered>,
    at: Moment,
    took: Duration,
) -> (Attempt, Verdict, Option<Duration>) {
    match sent {
        Ok(answer) => answered(&answer, at, took),
        Err(Unanswered::Egress(error)) => {
            let verdict = match &error {
                EgressError::Busy { .. } | EgressError::Unusable { .. } => Verdict::Untried,
                error if error.is_retryable() => Verdict::Again(None),
                _ => Verdict::Never,
            };
            let address = match &error {
                EgressError::BlockedAddress { address, .. } => Some(address.to_string()),
                _ => None,
            };
            let text = format!("{}: {error}", error.code());
            (Attempt::failed(at, took, text).to(address), verdict, None)
        }
        Err(Unanswered::TooLarge) => {
            let text = "payload_too_large: the body would have more than 65536 bytes";
            (Attempt::failed(at, took, text), Verdict::Never, None)
        }
        Err(Unanswered::Sealed(error)) => {
            tracing::warn!(%error, "a webhook cannot be signed: its secret cannot be opened");
            let text = "secret_unavailable: the secret of the endpoint cannot be opened now";
            (Attempt::failed(at, took, text), Verdict::Untried, None)
        }
    }
}

fn answered(
    answer: &EgressAnswer,
    at: Moment,
    took: Duration,
) -> (Attempt, Verdict, Option<Duration>) {
    let status = answer.status.as_u16();
    let headers = answer.headers.iter();
    let headers = headers.map(|(name, value)| (name.as_str(), value.as_bytes()));
    let attempt = Attempt::answered(at, took, status.into(), headers, &answer.body)
        .to(answer.address.map(|it| it.to_string()));
    let asked = || {
        let value = answer.headers.get(RETRY_AFTER)?.to_str().ok()?;
        retry_after(value, Moment::now())
    };
    match status {
        200..=299 => (attempt, Verdict::Delivered, None),
        410 => (
            attempt.because("gone: the receiver answered 410"),
            Verdict::Gone,
            None,
        ),
        _ => {
            let text = format!("refused: the receiver answered {status}");
            let (wait, asked) = match status {
                429 | 503 => (asked(), asked()),
                _ => (asked(), None),
            };
            (attempt.because(text), Verdict::Again(wait), asked)
        }
    }
}
