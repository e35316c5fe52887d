//! Sends what is to be exported to a collector: OTLP's client for all three signals, by gRPC or by HTTP.
//!
//! In the place of opentelemetry-otlp's exporters, which tell of a failure in words alone, keep to
//! themselves what a collector rejects, and copy each span three times on its way. Here none is copied
//! between the queue and the socket.

use std::{
    fmt,
    future::poll_fn,
    io::{self, Write as _},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use flate2::{Compression as GzipLevel, write::GzEncoder};
use http::{HeaderValue, Method, Request, Uri, Version, uri::PathAndQuery};
use http_body_util::{BodyExt as _, Limited};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use reqwest::{
    Response, StatusCode,
    header::{
        CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, RETRY_AFTER, TE,
    },
};
use tonic::{Code, Status, body::Body, client::GrpcService as _, transport::Channel};
use tonic_types::StatusExt as _;

use super::pieces::Pieces;
use crate::tally::{Failure, SignalCounters};
use dotmac_causes::Chain;

/// How often an export is tried again while the collector is just being restarted.
const RETRIES: u32 = 2;

/// Longest pause that a collector can ask for: it shall not silence us for a day.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Of an answer no more is read, in bytes. It holds a number and perhaps a sentence.
const ANSWER: usize = 64 * 1024;

/// The one compression there is.
const GZIP: &str = "gzip";

/// Sends one signal to one collector.
pub(crate) struct Sender {
    pub(crate) way: Way,
    pub(crate) headers: HeaderMap,
    pub(crate) gzip: bool,
    pub(crate) tally: Arc<SignalCounters>,
    /// The longest that one export may take, retries included; waits between them are shares of it.
    pub(crate) limit: Duration,
}

/// How the collector is reached.
pub(crate) enum Way {
    Grpc {
        channel: Channel,
        method: PathAndQuery,
    },
    Http {
        client: reqwest::Client,
        url: reqwest::Url,
    },
}

/// Why the collector did not take a request.
struct Refusal {
    text: String,
    /// Whether the same request may be taken a moment later.
    is_passing: bool,
    /// For how long the collector wants to be left alone.
    pause: Option<Duration>,
}

impl Sender {
    /// An encoded request as it is sent.
    ///
    /// # Errors
    ///
    /// It cannot be compressed.
    pub(crate) fn packed(&self, request: Pieces) -> Result<Pieces, Failure> {
        if !self.gzip {
            return Ok(request);
        }
        compressed(&request).map_err(|error| Failure::of(error.to_string(), false))
    }

    /// Sends a request that is [`packed`](Self::packed), and gives the number of its items that the
    /// collector rejected.
    ///
    /// # Errors
    ///
    /// The result of the last attempt.
    pub(crate) async fn send(&self, request: Pieces) -> Result<u64, Failure> {
        let mut wait = self.limit / 20;
        let mut tries_left = RETRIES;
        loop {
            let refusal = match self.try_once(request.clone()).await {
                Ok(rejected) => return Ok(rejected),
                Err(refusal) => refusal,
            };
            if let Some(pause) = refusal.pause {
                self.tally
                    .hold_until(Instant::now() + pause.min(LONGEST_PAUSE));
            }
            let is_held = !self.tally.pause().is_zero();
            if !refusal.is_passing || is_held || tries_left == 0 {
                return Err(Failure::of(refusal.text, is_held));
            }
            let jitter = self.limit.mul_f64(0.02 * fastrand::f64());
            tokio::time::sleep(wait + jitter).await;
            if !self.tally.pause().is_zero() {
                // Another export was asked for a pause meanwhile.
                return Err(Failure::of(refusal.text, true));
            }
            wait = (wait * 2).min(self.limit / 10);
            tries_left -= 1;
        }
    }

    async fn try_once(&self, request: Pieces) -> Result<u64, Refusal> {
        let headers = self.headers.clone();
        match &self.way {
            Way::Grpc { channel, method } => {
                let uri = Uri::from(method.clone());
                let call = grpc_call(uri, headers, request, self.gzip);
                let ended = by_grpc(channel.clone(), call).await;
                ended.map_err(|status| Refusal::of_grpc(&status))
            }
            Way::Http { client, url } => {
                // An empty request would not say its length by itself, and some load balancers want it.
                let mut post = client
                    .post(url.clone())
                    .header(CONTENT_TYPE, "application/x-protobuf")
                    .header(CONTENT_LENGTH, request.length())
                    .headers(headers);
                if self.gzip {
                    post = post.header(CONTENT_ENCODING, GZIP);
                }
                by_http(post.body(reqwest::Body::wrap(request))).await
            }
        }
    }
}

/// The prefix of a gRPC message: its compression and its length. No message is longer
/// than that can say.
///
/// Source: "gRPC over HTTP2", `Length-Prefixed-Message`.
const PREFIX: usize = 5;

fn grpc_call(uri: Uri, headers: HeaderMap, message: Pieces, gzip: bool) -> Request<Body> {
    let mut prefix = [u8::from(gzip), 0, 0, 0, 0];
    prefix[1..].copy_from_slice(&(message.length() as u32).to_be_bytes());
    let message = message.led_by(Bytes::copy_from_slice(&prefix));
    let mut call = Request::new(Body::new(message));
    *call.method_mut() = Method::POST;
    *call.version_mut() = Version::HTTP_2;
    *call.uri_mut() = uri;
    *call.headers_mut() = headers;
    let mut say = |name: HeaderName, value| call.headers_mut().insert(name, value);
    say(TE, HeaderValue::from_static("trailers"));
    say(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    if gzip {
        let encoding = HeaderName::from_static("grpc-encoding");
        say(encoding, HeaderValue::from_static(GZIP));
    }
    call
}

/// One call with one answer, which is all of gRPC that is needed; tonic's client copies the message.
async fn by_grpc(mut channel: Channel, call: Request<Body>) -> Result<u64, Status> {
    poll_fn(|context| channel.poll_ready(context))
        .await
        .map_err(|error| Status::from_error(error.into()))?;
    let answer = channel.call(call).await;
    let (head, body) = answer
        .map_err(|error| Status::from_error(error.into()))?
        .into_parts();
    let body = Limited::new(body, ANSWER).collect().await;
    let body = body.map_err(Status::from_error)?;
    let reported = [body.trailers(), Some(&head.headers)];
    let reported = reported
        .into_iter()
        .flatten()
        .find_map(Status::from_header_map);
    let status = reported.unwrap_or_else(|| Status::new(code_of(head.status), ""));
    match status.code() {
        Code::Ok => Ok(rejected(body.to_bytes().get(PREFIX..).unwrap_or_default())),
        _ => Err(status),
    }
}

/// The meaning of an answer without a gRPC status: it comes from an intermediary.
///
/// Source: "HTTP to gRPC Status Code Mapping", documentation of gRPC.
fn code_of(status: StatusCode) -> Code {
    match status {
        StatusCode::BAD_REQUEST => Code::Internal,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND => Code::Unimplemented,
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Code::Unavailable,
        _ => Code::Unknown,
    }
}

async fn by_http(post: reqwest::RequestBuilder) -> Result<u64, Refusal> {
    let cut = |error: reqwest::Error| Refusal {
        // Without its address, which may hold a password.
        text: Chain(&error.without_url()).to_string(),
        is_passing: true,
        pause: None,
    };
    let answer = post.send().await.map_err(cut)?;
    if answer.status().is_success() {
        // It is accepted, even if the rest of the answer fails.
        return Ok(rejected(&body(answer).await.unwrap_or_default()));
    }
    Err(Refusal::of_http(&answer))
}

/// Nothing, if it is longer than it should be.
async fn body(mut answer: Response) -> reqwest::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await? {
        if body.len() + piece.len() > ANSWER {
            return Ok(Vec::new());
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// How many items the collector says it rejected of those it was sent. The answers for the three signals
/// have the same fields by other names; one that cannot be read rejects nothing.
fn rejected(answer: &[u8]) -> u64 {
    let answer = ExportTraceServiceResponse::decode(answer).unwrap_or_default();
    let rejected = answer.partial_success.unwrap_or_default().rejected_spans;
    u64::try_from(rejected).unwrap_or(0)
}

fn compressed(request: &Pieces) -> io::Result<Pieces> {
    let mut encoder = GzEncoder::new(Vec::new(), GzipLevel::default());
    for piece in request.iter() {
        encoder.write_all(piece)?;
    }
    Ok(encoder.finish()?.into())
}

/// Which refusals pass: OTLP specification 1.x, "Failures".
impl Refusal {
    /// The status without its message, which the collector chose and may hold anything. An exhausted
    /// collector may be asked again once it says when.
    fn of_grpc(status: &Status) -> Self {
        let mut text = format!("export failed with gRPC code: {:?}", status.code());
        // A message of the server has none; this error is of the connection.
        let source = std::error::Error::source(status);
        if let Some(source) = source {
            text.push_str(&format!(": {}", Chain(source)));
        }
        Self {
            text,
            is_passing: matches!(
                status.code(),
                Code::Cancelled
                    | Code::DeadlineExceeded
                    | Code::Aborted
                    | Code::OutOfRange
                    | Code::Unavailable
                    | Code::DataLoss
            ) || source.is_some(),
            pause: status
                .get_details_retry_info()
                .and_then(|info| info.retry_delay),
        }
    }

    fn of_http(answer: &Response) -> Self {
        let status = answer.status();
        Self {
            text: format!("export failed with status code: {}", status.as_u16()),
            is_passing: matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            ),
            pause: pause(answer),
        }
    }
}

/// How long an answer asks us to wait; the seconds of `Retry-After`, which is what collectors send.
fn pause(answer: &Response) -> Option<Duration> {
    let throttles = [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::SERVICE_UNAVAILABLE,
    ];
    if !throttles.contains(&answer.status()) {
        return None;
    }
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?;
    Some(Duration::from_secs(seconds.trim().parse().ok()?))
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}
