//! A JSON body that another system has signed, as Standard Webhooks 1.x have it.

use std::{marker::PhantomData, time::Duration};

use actix_web::{FromRequest, HttpRequest, dev::Payload, web::Bytes};
use chrono::{DateTime, Utc};
use dotmac_db::types::Moment;
use futures_util::future::LocalBoxFuture;
use garde::Validate;
use serde::de::DeserializeOwned;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Required,
        path::{ParameterBuilder, ParameterIn},
    },
};

use super::{
    Argument, Operation, ProblemType,
    valid::{describe_body, is_json, read, refused},
};
use crate::{
    http::{self, Problem},
    standard_webhooks::is_signed_by,
};

/// How far the clock of a sender may be from ours, and how old a message may be: that of the standard's own libraries.
const TOLERANCE: Duration = Duration::from_secs(300);

/// The longest id of a message, in characters.
const LONGEST_ID: usize = 255;

const UNSIGNED: ProblemType = ProblemType::new(
    401,
    "invalid_signature",
    "the headers `webhook-id`, `webhook-timestamp` and `webhook-signature` do not sign the body",
);
const STALE: ProblemType = ProblemType::new(
    401,
    "signature_expired",
    "`webhook-timestamp` is more than five minutes from now",
);

const HEADERS: [(&str, &str); 3] = [
    (
        "webhook-id",
        "The id of the message, the same each time it is sent; 1 to 255 visible ASCII characters.",
    ),
    (
        "webhook-timestamp",
        "When it was sent, in seconds since 1970.",
    ),
    (
        "webhook-signature",
        "`v1,` and base64 of HMAC-SHA256 of `id.timestamp.body`; several are separated by spaces.",
    ),
];

/// A JSON body with the headers that sign it. It says nothing before [`open`](Self::open) has found the signature to be right.
///
/// A message that comes twice has the same [id](SignedMessage::id): what must take place once is kept by it.
pub struct SignedBody<T> {
    body: Bytes,
    is_json: bool,
    headers: [Option<String>; 3],
    read: PhantomData<fn() -> T>,
}

/// What was signed.
#[derive(Clone, Debug)]
pub struct SignedMessage<T> {
    /// `webhook-id`.
    pub id: String,
    /// What the body says.
    pub value: T,
}

impl<T: DeserializeOwned + Validate<Context = ()>> SignedBody<T> {
    /// The message, if it was signed with `secret` within the last five minutes.
    ///
    /// # Errors
    ///
    /// 401 `invalid_signature` or `signature_expired`; after that as [`Valid`](super::Valid).
    pub fn open(self, secret: &[u8]) -> Result<SignedMessage<T>, Problem> {
        self.open_at(secret, Moment::now())
    }

    fn open_at(self, secret: &[u8], now: Moment) -> Result<SignedMessage<T>, Problem> {
        let [Some(id), Some(timestamp), Some(signatures)] = self.headers else {
            return Err(UNSIGNED.problem());
        };
        let is_id =
            (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|it| it.is_ascii_graphic());
        let place = (&*id, &*timestamp);
        if !is_id || !is_signed_by(secret, place, &self.body, &signatures) {
            return Err(UNSIGNED.problem());
        }
        let sent_at: i64 = timestamp.parse().map_err(|_| UNSIGNED.problem())?;
        let now = DateTime::<Utc>::from(now).timestamp();
        if sent_at.abs_diff(now) > TOLERANCE.as_secs() {
            return Err(STALE.problem());
        }
        if !self.is_json {
            return Err(http::unsupported("application/json"));
        }
        let value: T = read(&self.body)?;
        value.validate().map_err(|report| refused(&report))?;
        Ok(SignedMessage { id, value })
    }
}

impl<T: 'static> FromRequest for SignedBody<T> {
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<Self, actix_web::Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let is_json = is_json(request);
        let headers = HEADERS.map(|(name, _)| {
            let value = request.headers().get(name)?;
            Some(value.to_str().ok()?.to_owned())
        });
        let body = Bytes::from_request(request, payload);
        Box::pin(async move {
            Ok(Self {
                body: body.await?,
                is_json,
                headers,
                read: PhantomData,
            })
        })
    }
}

impl<T> Argument for SignedBody<T>
where
    T: DeserializeOwned + Validate<Context = ()> + ToSchema + 'static,
{
    fn describe(operation: &mut Operation) {
        describe_body::<T>(operation);
        for (name, description) in HEADERS {
            let parameter = ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Header)
                .description(Some(description))
                .required(Required::True)
                .schema(Some(<String as PartialSchema>::schema()));
            operation.parameter(parameter.build());
        }
        operation.problem(UNSIGNED);
        operation.problem(STALE);
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::standard_webhooks::Signed;

    const SECRET: &[u8] = b"a secret of 24 bytes and";
    const SENT_AT: i64 = 1_614_265_330;

    #[derive(Debug, Deserialize, Validate)]
    struct New {
        #[garde(length(chars, min = 1, max = 5))]
        text: String,
    }

    fn body(body: &str, id: &str, timestamp: &str) -> SignedBody<New> {
        let signature = Signed {
            id,
            timestamp: SENT_AT,
            body,
        }
        .by_secret(SECRET);
        SignedBody {
            body: Bytes::copy_from_slice(body.as_bytes()),
            is_json: true,
            headers: [id, timestamp, &signature].map(|it| Some(it.to_owned())),
            read: PhantomData,
        }
    }

    fn code(body: SignedBody<New>, seconds_later: i64) -> String {
        let now = DateTime::from_timestamp(SENT_AT + seconds_later, 0).unwrap_or_default();
        match body.open_at(SECRET, now.into()) {
            Ok(message) => format!("{} {}", message.id, message.value.text),
            Err(problem) => {
                let body: serde_json::Value =
                    serde_json::from_slice(&problem.body(None)).expect("JSON");
                body["code"].as_str().unwrap_or_default().to_owned()
            }
        }
    }

    #[test]
    fn nothing_is_read_before_the_signature_is_right() {
        const RIGHT: &str = r#"{"text":"a"}"#;
        let at = SENT_AT.to_string();
        assert_eq!(code(body(RIGHT, "msg_1", &at), 0), "msg_1 a");
        for (seconds, expected) in [
            (300, "msg_1 a"),
            (-300, "msg_1 a"),
            (301, "signature_expired"),
            (-301, "signature_expired"),
        ] {
            assert_eq!(code(body(RIGHT, "msg_1", &at), seconds), expected);
        }
        let changed = SignedBody {
            body: Bytes::from_static(b"{\"text\":\"b\"}"),
            ..body(RIGHT, "msg_1", &at)
        };
        assert_eq!(code(changed, 0), "invalid_signature");
        let later = (SENT_AT + 1).to_string();
        assert_eq!(code(body(RIGHT, "msg_1", &later), 0), "invalid_signature");
        for id in ["", "a b", &"a".repeat(256)] {
            assert_eq!(code(body(RIGHT, id, &at), 0), "invalid_signature", "{id}");
        }
        for place in 0..3 {
            let mut without = body(RIGHT, "msg_1", &at);
            without.headers[place] = None;
            assert_eq!(code(without, 0), "invalid_signature");
        }
        for (text, expected) in [
            ("{", "malformed_json"),
            (r#"{"text":"a","x":1}"#, "unknown_fields"),
            (r#"{"text":""}"#, "validation"),
        ] {
            assert_eq!(code(body(text, "msg_1", &at), 0), expected);
        }
    }
}
