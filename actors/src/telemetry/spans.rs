//! Sends spans to a collector as [`encode`](super::encode) wrote them, by gRPC or by HTTP.

use std::fmt;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf as _, BufMut as _, Bytes};
use flate2::{Compression as GzipLevel, write::GzEncoder};
use http::Uri;
use http::uri::PathAndQuery;
use opentelemetry_http::{HttpClient as _, Request};
use opentelemetry_otlp::tonic_types::metadata::MetadataMap;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::encode::{Batch, Resourced};
use super::fields::Chain;
use super::tally::Tally;
use super::transport::{LONGEST_PAUSE, Wire};

/// How often an export is tried again while the collector is just being restarted.
const RETRIES: u32 = 2;

/// The method that takes spans.
const METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// The exporter of spans, for one collector.
pub(super) struct SpanSender {
    pub(super) way: Way,
    pub(super) resourced: Resourced,
    pub(super) tally: Arc<Tally>,
    /// The longest that one export may take, retries included; waits between them are shares of it.
    pub(super) limit: Duration,
}

/// How the collector is reached.
pub(super) enum Way {
    Grpc {
        client: Grpc<Channel>,
        headers: HeaderMap,
    },
    Http {
        wire: Wire,
        url: Uri,
        gzip: bool,
    },
}

/// Why the collector did not take a batch.
struct Refusal {
    /// In the words of the other signals' exporters, by which [`Failure`](super::tally::Failure) tells
    /// what it stands for.
    text: String,
    /// Whether the same batch may be taken a moment later.
    is_passing: bool,
}

impl SpanSender {
    /// # Errors
    ///
    /// [`OTelSdkError::InternalFailure`] with what the last try came to.
    pub(super) async fn export(&self, batch: &Batch) -> OTelSdkResult {
        let refused = |refusal: Refusal| OTelSdkError::InternalFailure(refusal.text);
        self.send(batch).await.map_err(refused)
    }

    async fn send(&self, batch: &Batch) -> Result<(), Refusal> {
        let request = Bytes::from(self.resourced.request(batch));
        let mut wait = self.limit / 20;
        for _ in 0..RETRIES {
            match self.way.send(request.clone(), &self.tally).await {
                Err(refusal) if refusal.is_passing && self.tally.pause().is_zero() => {
                    let jitter = self.limit.mul_f64(0.02 * fastrand::f64());
                    tokio::time::sleep(wait + jitter).await;
                    wait = (wait * 2).min(self.limit / 10);
                }
                ended => return ended,
            }
        }
        self.way.send(request, &self.tally).await
    }
}

impl Way {
    async fn send(&self, request: Bytes, tally: &Tally) -> Result<(), Refusal> {
        match self {
            Self::Grpc { client, headers } => by_grpc(client.clone(), headers, request)
                .await
                .map_err(|status| Refusal::of_grpc(&status, tally)),
            Self::Http { wire, url, gzip } => by_http(wire, url, request, *gzip).await,
        }
    }
}

async fn by_grpc(
    mut client: Grpc<Channel>,
    headers: &HeaderMap,
    request: Bytes,
) -> Result<(), Status> {
    client
        .ready()
        .await
        .map_err(|error| Status::from_error(error.into()))?;
    let mut request = tonic::Request::new(request);
    *request.metadata_mut() = MetadataMap::from_headers(headers.clone());
    let method = PathAndQuery::from_static(METHOD);
    client.unary(request, method, AsItIs).await.map(drop)
}

async fn by_http(wire: &Wire, url: &Uri, body: Bytes, gzip: bool) -> Result<(), Refusal> {
    let fatal = |error: &dyn fmt::Display| Refusal {
        text: error.to_string(),
        is_passing: false,
    };
    let mut request = Request::post(url.clone()).header(CONTENT_TYPE, "application/x-protobuf");
    let body = if gzip {
        request = request.header(CONTENT_ENCODING, "gzip");
        compressed(&body).map_err(|error| fatal(&error))?
    } else {
        body
    };
    let request = request.body(body).map_err(|error| fatal(&error))?;
    let answer = wire.send_bytes(request).await.map_err(|error| Refusal {
        text: Chain(&*error).to_string(),
        is_passing: true,
    })?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    Err(Refusal {
        text: format!("export failed with status code: {}", status.as_u16()),
        is_passing: matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
        ),
    })
}

fn compressed(body: &[u8]) -> std::io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), GzipLevel::default());
    encoder.write_all(body)?;
    Ok(encoder.finish()?.into())
}

impl Refusal {
    /// The status without its message, which the collector chose and may hold anything. Which codes pass:
    /// OTLP specification 1.x, "Failures"; an exhausted collector may be asked again once it says when.
    fn of_grpc(status: &Status, tally: &Tally) -> Self {
        let mut text = format!("export failed with gRPC code: {:?}", status.code());
        if let Some(source) = std::error::Error::source(status) {
            text.push_str(&format!(": {}", Chain(source)));
        }
        if let Some(pause) = status
            .get_details_retry_info()
            .and_then(|info| info.retry_delay)
        {
            tally.hold_until(Instant::now() + pause.min(LONGEST_PAUSE));
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
            ),
        }
    }
}

/// The codec for messages that are encoded already, and for answers that nobody reads.
struct AsItIs;

impl Codec for AsItIs {
    type Encode = Bytes;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for AsItIs {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for AsItIs {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, answer: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        answer.advance(answer.remaining());
        Ok(Some(()))
    }
}

impl fmt::Debug for SpanSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanSender").finish_non_exhaustive()
    }
}
