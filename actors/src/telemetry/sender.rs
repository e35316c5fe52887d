//! Sends what is to be exported to a collector: OTLP's client for all three signals, by gRPC or by HTTP.
//!
//! In the place of opentelemetry-otlp's exporters, which tell of a failure in words alone, keep to
//! themselves what a collector rejects, and copy each span three times on its way.

use std::fmt;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf as _, BufMut as _, Bytes};
use flate2::{Compression as GzipLevel, write::GzEncoder};
use http::uri::PathAndQuery;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use tonic::client::Grpc;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::fields::Chain;
use super::tally::{Failure, Tally};

/// How often an export is tried again while the collector is just being restarted.
const RETRIES: u32 = 2;

/// Longest pause that a collector can ask for: it shall not silence us for a day.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Of an answer no more is read, in bytes. It holds a number and perhaps a sentence.
const ANSWER: usize = 64 * 1024;

/// Sends one signal to one collector.
pub(super) struct Sender {
    pub(super) way: Way,
    pub(super) tally: Arc<Tally>,
    /// The longest that one export may take, retries included; waits between them are shares of it.
    pub(super) limit: Duration,
}

/// How the collector is reached.
pub(super) enum Way {
    Grpc {
        client: Grpc<Channel>,
        method: PathAndQuery,
        headers: MetadataMap,
    },
    Http {
        client: reqwest::Client,
        url: reqwest::Url,
        headers: HeaderMap,
        gzip: bool,
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
    /// Sends an encoded request, and gives the number of its items that the collector rejected.
    ///
    /// # Errors
    ///
    /// What the last try came to.
    pub(super) async fn send(&self, request: Bytes) -> Result<u64, Failure> {
        let mut wait = self.limit / 20;
        let mut tries_left = RETRIES;
        loop {
            let refusal = match self.way.send(request.clone()).await {
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
}

impl Way {
    async fn send(&self, request: Bytes) -> Result<u64, Refusal> {
        match self {
            Self::Grpc {
                client,
                method,
                headers,
            } => by_grpc(client.clone(), method.clone(), headers.clone(), request)
                .await
                .map_err(|status| Refusal::of_grpc(&status)),
            Self::Http {
                client,
                url,
                headers,
                gzip,
            } => {
                let mut post = client
                    .post(url.clone())
                    .header(CONTENT_TYPE, "application/x-protobuf")
                    .headers(headers.clone());
                let body = if *gzip {
                    post = post.header(CONTENT_ENCODING, "gzip");
                    compressed(&request).map_err(|error| Refusal::for_good(&error))?
                } else {
                    request
                };
                by_http(post.body(body)).await
            }
        }
    }
}

async fn by_grpc(
    mut client: Grpc<Channel>,
    method: PathAndQuery,
    headers: MetadataMap,
    request: Bytes,
) -> Result<u64, Status> {
    client
        .ready()
        .await
        .map_err(|error| Status::from_error(error.into()))?;
    let codec = AsItIs {
        length: request.len(),
    };
    let mut request = tonic::Request::new(request);
    *request.metadata_mut() = headers;
    let answer = client.unary(request, method, codec).await?;
    Ok(answer.into_inner())
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
        // It is taken, whatever becomes of the rest of the answer.
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

fn compressed(body: &[u8]) -> std::io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), GzipLevel::default());
    encoder.write_all(body)?;
    Ok(encoder.finish()?.into())
}

/// Which refusals pass: OTLP specification 1.x, "Failures".
impl Refusal {
    fn for_good(error: &dyn fmt::Display) -> Self {
        Self {
            text: error.to_string(),
            is_passing: false,
            pause: None,
        }
    }

    /// The status without its message, which the collector chose and may hold anything. An exhausted
    /// collector may be asked again once it says when.
    fn of_grpc(status: &Status) -> Self {
        let mut text = format!("export failed with gRPC code: {:?}", status.code());
        // What the server said has none; this is of the connection.
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

/// The codec for messages that are encoded already, and for answers of which a number is of interest.
#[derive(Clone, Copy)]
struct AsItIs {
    /// Of the message, in bytes.
    length: usize,
}

impl Codec for AsItIs {
    type Encode = Bytes;
    type Decode = u64;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for AsItIs {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }

    /// Room for all of the message at once, instead of ever more of it.
    fn buffer_settings(&self) -> BufferSettings {
        /// What gRPC writes before each message, in bytes.
        const HEADER: usize = 5;
        BufferSettings::new(HEADER + self.length, HEADER + self.length)
    }
}

impl Decoder for AsItIs {
    type Item = u64;
    type Error = Status;

    fn decode(&mut self, answer: &mut DecodeBuf<'_>) -> Result<Option<u64>, Status> {
        let answer = answer.copy_to_bytes(answer.remaining());
        Ok(Some(rejected(&answer)))
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}
