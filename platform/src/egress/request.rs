//! A call as a module puts it together, and the answer that it gets.

use std::{fmt, net::IpAddr, time::Duration};

use bytes::Bytes;
use reqwest::{
    Method, StatusCode,
    header::{
        CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
        TRANSFER_ENCODING, UPGRADE,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use url::Url;

use super::{Egress, EgressError, policy};

/// Headers that belong to the connection, which is not the caller's.
const OF_THE_CONNECTION: [HeaderName; 5] =
    [CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE];

/// A call that is being put together: see [`Egress::request`].
#[must_use = "nothing is sent before `send`"]
pub struct EgressRequest {
    pub(super) egress: Egress,
    pub(super) method: Method,
    pub(super) url: Result<Url, EgressError>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) timeout: Duration,
    pub(super) answer_limit: usize,
    pub(super) cuts_answer: bool,
    pub(super) redirects: u8,
}

/// A whole answer.
#[derive(Clone)]
#[non_exhaustive]
pub struct EgressAnswer {
    /// The status; one of 400 or more is an answer too, not an error.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as it came, not unpacked.
    pub body: Bytes,
    /// Whether there was more of the body than was read: see [`EgressRequest::cut_answer`].
    pub is_cut: bool,
    /// The address that answered; `None` through a proxy, which chooses it.
    pub address: Option<IpAddr>,
}

impl EgressRequest {
    pub(super) fn new(egress: Egress, method: Method, url: &str) -> Self {
        Self {
            method,
            url: policy::read_url(url),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout: egress.0.config.timeout,
            answer_limit: egress.0.config.answer_limit,
            cuts_answer: false,
            redirects: 0,
            egress,
        }
    }

    /// Sets a header. `host`, `content-length` and what else belongs to the connection are left out, and `traceparent`
    /// is that of the call.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        if !OF_THE_CONNECTION.contains(&name) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Sets the body, as it is.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets the body, as JSON, and its `content-type`.
    pub fn json(mut self, body: &impl Serialize) -> Self {
        match serde_json::to_vec(body) {
            Ok(body) => {
                let json = HeaderValue::from_static("application/json");
                self.header(CONTENT_TYPE, json).body(body)
            }
            Err(_) => {
                let problem = "the body cannot be written as JSON";
                self.url = Err(EgressError::InvalidUrl { problem });
                self
            }
        }
    }

    /// The longest time from when there is a place for it to the end of the answer; at most, and by default,
    /// `DOTMAC_EGRESS_TIMEOUT`. It waits a quarter of that for its place.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.min(self.timeout);
        self
    }

    /// How much of the answer is read, in bytes, in place of `DOTMAC_EGRESS_ANSWER_LIMIT`. All of it is kept in memory.
    pub fn answer_limit(mut self, bytes: usize) -> Self {
        self.answer_limit = bytes;
        self
    }

    /// Reads the answer up to the limit and leaves the rest, in place of the error `answer_too_large`: for callers that
    /// need only the status.
    pub fn cut_answer(mut self) -> Self {
        self.cuts_answer = true;
        self
    }

    /// Follows up to `most` redirects of a `GET` or `HEAD`, each judged like its own call, none from https to
    /// http. Without this, and of other methods, the redirect is the answer. To another host, port or scheme go no
    /// headers but `accept`, `accept-language` and `user-agent`.
    pub fn follow_redirects(mut self, most: u8) -> Self {
        self.redirects = most;
        self
    }

    /// Sends it and reads the answer to its end. Dropped before that, it closes the connection.
    ///
    /// # Errors
    ///
    /// [`EgressError`], which says whether another attempt can be of use.
    pub async fn send(self) -> Result<EgressAnswer, EgressError> {
        self.exchange().await
    }
}

impl EgressAnswer {
    /// The body, read as JSON.
    ///
    /// # Errors
    ///
    /// It is not the JSON of a `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

/// Nothing of headers and body: they may be secrets.
impl fmt::Debug for EgressAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.body.len();
        write!(f, "EgressAnswer({}, {bytes} bytes)", self.status)
    }
}
