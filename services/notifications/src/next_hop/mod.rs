//! Next hops that are called by HTTP: receivers of webhooks, providers of text messages, push services. All of them by the
//! guarded client, since recipients and tenants choose where these calls go.
//!
//! A call that may have arrived without an answer is `unknown`, unless its receiver knows a repeated one by its id.

mod encryption;
mod payload;
mod push;
mod sms;
mod webhook;

use std::time::Duration;

use dotmac_platform::{
    db::types::Moment,
    delivery::retry_after,
    egress::{EgressAnswer, EgressError, EgressRequest, HeaderValue, header::RETRY_AFTER},
};

pub(crate) use encryption::{AUTH_SECRET, PUBLIC_KEY, ReceiverKeys};
pub(crate) use payload::{Message, check, sms as sms_text};
pub(crate) use push::{PushMessage, VapidKey, call as push};
pub use sms::SmsProvider;
pub(crate) use sms::{Phone, SmsRoute, SmsSettings};
pub(crate) use webhook::{SigningKey, call as webhook};

/// Longest time of a call, from the lookup of the name to the end of the answer.
pub(crate) const TIME: Duration = Duration::from_secs(15);

/// How much is kept of what a next hop says, in bytes.
const MOST_WORDS: usize = 500;

/// A call that is ready to be made.
pub(crate) struct Call {
    request: EgressRequest,
    /// Whether a receiver that gets it twice knows it to be one.
    pub(crate) is_repeatable: bool,
    judge: fn(&EgressAnswer) -> Heard,
}

/// What a next hop said, and what that means for the delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) verdict: Verdict,
    /// The word for why it is not accepted.
    pub(crate) reason: Option<String>,
    /// Its answer: `201 Created`.
    pub(crate) answer: String,
}

/// What an answer, or none, means for the delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was taken.
    Accepted,
    /// It was not; another attempt is right, not before that is over.
    Again(Option<Duration>),
    /// There is no such recipient; `is_lasting` if nothing else will reach it either.
    Bounced {
        /// Nothing will.
        is_lasting: bool,
    },
    /// It is refused.
    Failed,
    /// It may have been taken.
    Unknown,
    /// The next hop was not asked: too much is under way. No attempt.
    Untried,
}

impl Call {
    fn new(request: EgressRequest, is_repeatable: bool, judge: fn(&EgressAnswer) -> Heard) -> Self {
        Self {
            request: request.timeout(TIME).cut_answer(),
            is_repeatable,
            judge,
        }
    }

    /// Makes it, once: what was heard, and the answer if there is one.
    pub(crate) async fn make(self) -> (Heard, Result<EgressAnswer, EgressError>) {
        let Self {
            request,
            is_repeatable,
            judge,
        } = self;
        let outcome = request.send().await;
        let heard = match &outcome {
            Ok(answer) => judge(answer),
            Err(error) => unanswered(error, is_repeatable),
        };
        (heard, outcome)
    }
}

fn unanswered(error: &EgressError, is_repeatable: bool) -> Heard {
    let is_untried = matches!(error, EgressError::Busy { .. });
    let verdict = if is_untried && is_repeatable {
        // What is not repeatable was marked before: its mark is taken back as after an attempt.
        Verdict::Untried
    } else if !error.is_retryable() {
        Verdict::Failed
    } else if error.may_have_arrived() && !is_repeatable {
        Verdict::Unknown
    } else {
        Verdict::Again(None)
    };
    Heard {
        verdict,
        reason: Some(error.code().to_owned()),
        answer: error.to_string(),
    }
}

/// What was heard with a verdict: status and phrase, and what the next hop says of it.
fn heard(answer: &EgressAnswer, verdict: Verdict, words: &str) -> Heard {
    let status = answer.status;
    let phrase = status.canonical_reason().unwrap_or_default();
    let words: String = words
        .chars()
        .map(|it| if it.is_control() { ' ' } else { it })
        .collect();
    let mut text = format!("{} {phrase} {}", status.as_u16(), words.trim());
    text.truncate(text.trim_end().len());
    text.truncate(text.floor_char_boundary(MOST_WORDS));
    let reason = (verdict != Verdict::Accepted).then(|| format!("http_{}", status.as_u16()));
    Heard {
        verdict,
        reason,
        answer: text,
    }
}

/// Another attempt, after what the answer asks for.
fn again(answer: &EgressAnswer) -> Verdict {
    let asked = answer
        .headers
        .get(RETRY_AFTER)
        .and_then(|it| it.to_str().ok())
        .and_then(|it| retry_after(it, Moment::now()));
    Verdict::Again(asked)
}

/// A header that no log shows.
fn secret(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_arrived_is_unknown_unless_it_may_be_repeated() {
        let lost = EgressError::ConnectionFailed {
            host: "a".to_owned(),
            problem: "lost".to_owned(),
            is_sent: true,
        };
        let refused = EgressError::ConnectionFailed {
            host: "a".to_owned(),
            problem: "refused".to_owned(),
            is_sent: false,
        };
        let blocked = EgressError::BlockedPort {
            host: "a".to_owned(),
            port: 25,
        };
        let busy = EgressError::Busy {
            host: "a".to_owned(),
        };
        for (error, is_repeatable, expected) in [
            (&busy, true, Verdict::Untried),
            (&busy, false, Verdict::Again(None)),
            (&lost, false, Verdict::Unknown),
            (&lost, true, Verdict::Again(None)),
            (&refused, false, Verdict::Again(None)),
            (&blocked, true, Verdict::Failed),
        ] {
            assert_eq!(
                unanswered(error, is_repeatable).verdict,
                expected,
                "{error}"
            );
        }
    }
}
