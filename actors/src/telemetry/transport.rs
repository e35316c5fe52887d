//! How an exporter reaches its collector: headers, certificates, compression, patience.
//!
//! Everything comes from [`Otlp`]. The exporters would read `OTEL_EXPORTER_OTLP_HEADERS` from the
//! environment by themselves and prefer it to what they are told; here the headers of a request are
//! those that the settings name and no others.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::tonic_types::metadata::MetadataMap;
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig, Identity};
use opentelemetry_otlp::{
    Compression as OtlpCompression, Protocol as OtlpProtocol, RetryPolicy, WithExportConfig,
    WithHttpConfig, WithTonicConfig,
};
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::ExposeSecret as _;
use tonic::client::Grpc;
use tonic::codec::CompressionEncoding;
use tonic::transport::Endpoint;

use super::config::{Compression, Otlp, Protocol, Tls};
use super::error::TelemetryError;
use super::exporters::BuildError;
use super::fields::Chain;
use super::spans::Way;
use super::tally::Tally;

/// Longest pause that a collector's `Retry-After` can ask for: it shall not silence us for a day.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// What all exporters of one attachment share.
pub(super) struct Transport<'a> {
    otlp: &'a Otlp,
    headers: HeaderMap,
    pem: Option<Pem>,
}

/// The files of [`Tls`], read and found to be what they should be.
struct Pem {
    authorities: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl<'a> Transport<'a> {
    /// Reads the certificates; without TLS there is nothing to read.
    ///
    /// # Errors
    ///
    /// [`TelemetryError::TlsFile`] and [`TelemetryError::Header`].
    pub(super) fn new(otlp: &'a Otlp) -> Result<Self, TelemetryError> {
        let pem = otlp
            .is_encrypted()
            .then(|| Pem::read(&otlp.tls))
            .transpose()?;
        Ok(Self {
            headers: headers(otlp)?,
            otlp,
            pem,
        })
    }

    /// The longest that one export may take.
    pub(super) fn limit(&self) -> Duration {
        self.otlp.export_timeout
    }

    pub(super) fn protocol(&self) -> Protocol {
        self.otlp.protocol
    }

    /// Sets up an exporter that speaks gRPC. Must run inside the runtime that drives its channel.
    pub(super) fn grpc<B: WithExportConfig + WithTonicConfig>(&self, builder: B) -> B {
        let headers = self.headers.clone();
        let mut builder = builder
            .with_endpoint(&self.otlp.endpoint)
            .with_timeout(self.otlp.export_timeout)
            .with_retry_policy(self.retries())
            .with_interceptor(move |mut request: tonic::Request<()>| {
                *request.metadata_mut() = replaced(request.metadata(), &headers);
                Ok(request)
            });
        if self.otlp.compression == Compression::Gzip {
            builder = builder.with_compression(OtlpCompression::Gzip);
        }
        match &self.pem {
            Some(pem) => builder.with_tls_config(pem.for_grpc()),
            None => builder,
        }
    }

    /// Sets up an exporter that speaks HTTP, for the signal at `path`.
    ///
    /// # Errors
    ///
    /// [`TelemetryError::Client`] if the client cannot be built.
    pub(super) fn http<B: WithExportConfig + WithHttpConfig>(
        &self,
        builder: B,
        path: &str,
        tally: &Arc<Tally>,
    ) -> Result<B, TelemetryError> {
        let builder = builder
            .with_protocol(OtlpProtocol::HttpBinary)
            .with_endpoint(self.otlp.http_url(path))
            .with_timeout(self.otlp.export_timeout)
            .with_retry_policy(self.retries())
            .with_http_client(self.wire(tally)?);
        Ok(match self.otlp.compression {
            Compression::Gzip => builder.with_compression(OtlpCompression::Gzip),
            Compression::None => builder,
        })
    }

    /// The way for the exporter of spans. Must run inside the runtime that drives its connections.
    ///
    /// # Errors
    ///
    /// [`BuildError`] for an endpoint that is no address, or a client that cannot be built.
    pub(super) fn for_spans(&self, tally: &Arc<Tally>) -> Result<Way, BuildError> {
        let gzip = self.otlp.compression == Compression::Gzip;
        if self.protocol() == Protocol::Http {
            return Ok(Way::Http {
                wire: self.wire(tally)?,
                url: self.otlp.http_url("v1/traces").parse()?,
                gzip,
            });
        }
        let mut endpoint = Endpoint::from_shared(self.otlp.endpoint.clone())?;
        if let Some(pem) = &self.pem {
            endpoint = endpoint.tls_config(pem.for_grpc())?;
        }
        let client = Grpc::new(endpoint.connect_lazy());
        Ok(Way::Grpc {
            client: if gzip {
                client.send_compressed(CompressionEncoding::Gzip)
            } else {
                client
            },
            headers: self.headers.clone(),
        })
    }

    fn wire(&self, tally: &Arc<Tally>) -> Result<Wire, TelemetryError> {
        Ok(Wire {
            client: self.client()?,
            headers: self.headers.clone(),
            tally: Arc::clone(tally),
        })
    }

    fn client(&self) -> Result<reqwest::Client, TelemetryError> {
        let mut builder = reqwest::Client::builder().timeout(self.otlp.export_timeout);
        if let Some(pem) = &self.pem {
            if let Some(authorities) = &pem.authorities {
                let trusted = reqwest::Certificate::from_pem_bundle(authorities);
                builder = builder.tls_certs_only(trusted.map_err(TelemetryError::Client)?);
            }
            if let Some((certificate, key)) = &pem.identity {
                let both = [certificate.as_slice(), b"\n", key].concat();
                let identity = reqwest::Identity::from_pem(&both);
                builder = builder.identity(identity.map_err(TelemetryError::Client)?);
            }
        }
        builder.build().map_err(TelemetryError::Client)
    }

    /// Retries of the exporter itself, meant for a collector that is just being restarted. They end
    /// well before the export time-out, so that a failure is reported as what it was.
    fn retries(&self) -> RetryPolicy {
        let limit = self.otlp.export_timeout;
        RetryPolicy::recommended()
            .with_max_retries(2)
            .with_initial_delay(limit / 20)
            .with_max_delay(limit / 10)
            .with_max_jitter(limit / 50)
    }
}

impl Pem {
    fn read(tls: &Tls) -> Result<Self, TelemetryError> {
        let authorities = tls.ca_cert.as_deref().map(certificates).transpose()?;
        let identity = match &tls.client {
            Some(client) => Some((certificates(&client.certificate)?, key(&client.key)?)),
            None => None,
        };
        Ok(Self {
            authorities,
            identity,
        })
    }

    /// Own authorities replace those of the system.
    fn for_grpc(&self) -> ClientTlsConfig {
        let config = ClientTlsConfig::new();
        let config = match &self.authorities {
            Some(pem) => config.ca_certificate(Certificate::from_pem(pem)),
            None => config.with_native_roots(),
        };
        match &self.identity {
            Some((certificate, key)) => config.identity(Identity::from_pem(certificate, key)),
            None => config,
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<u8>, TelemetryError> {
    let text = read(path)?;
    let mut found = CertificateDer::pem_slice_iter(&text);
    if found.next().is_some_and(|first| first.is_ok()) && found.all(|next| next.is_ok()) {
        return Ok(text);
    }
    Err(unusable(path, "it holds no certificate in PEM"))
}

fn key(path: &Path) -> Result<Vec<u8>, TelemetryError> {
    let text = read(path)?;
    match PrivateKeyDer::from_pem_slice(&text) {
        Ok(_) => Ok(text),
        Err(_) => Err(unusable(path, "it holds no private key in PEM")),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TelemetryError> {
    fs::read(path).map_err(|error| unusable(path, error))
}

fn unusable(path: &Path, problem: impl fmt::Display) -> TelemetryError {
    TelemetryError::TlsFile {
        path: path.to_owned(),
        problem: problem.to_string(),
    }
}

fn headers(otlp: &Otlp) -> Result<HeaderMap, TelemetryError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &otlp.headers {
        let invalid = || TelemetryError::Header { name: name.clone() };
        let parsed = HeaderName::try_from(name.as_str()).map_err(|_| invalid())?;
        let mut value = HeaderValue::from_str(value.expose_secret()).map_err(|_| invalid())?;
        value.set_sensitive(true);
        headers.insert(parsed, value);
    }
    Ok(headers)
}

/// The headers that the exporter itself needs, and ours.
fn replaced(former: &MetadataMap, headers: &HeaderMap) -> MetadataMap {
    let mut all = HeaderMap::new();
    let agent = former.get(USER_AGENT.as_str());
    if let Some(Ok(agent)) = agent.map(|value| HeaderValue::from_bytes(value.as_bytes())) {
        all.insert(USER_AGENT, agent);
    }
    all.extend(headers.clone());
    MetadataMap::from_headers(all)
}

/// The HTTP client of an exporter. It notes what the exporter keeps to itself: why a connection
/// failed, and for how long a collector wants to be left alone.
pub(super) struct Wire {
    client: reqwest::Client,
    headers: HeaderMap,
    tally: Arc<Tally>,
}

#[async_trait::async_trait]
impl HttpClient for Wire {
    async fn send_bytes(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        const OF_THE_EXPORTER: [&str; 3] = ["content-type", "content-encoding", "user-agent"];
        let former = std::mem::take(request.headers_mut());
        let kept = former.into_iter().filter_map(|(name, value)| {
            let name = name.filter(|name| OF_THE_EXPORTER.contains(&name.as_str()))?;
            Some((name, value))
        });
        request.headers_mut().extend(kept);
        request.headers_mut().extend(self.headers.clone());
        let answer = self.client.send_bytes(request).await;
        match &answer {
            Ok(response) => {
                if let Some(pause) = pause(response) {
                    self.tally.hold_until(Instant::now() + pause);
                }
            }
            Err(error) => self.tally.note_network_error(Chain(&**error).to_string()),
        }
        answer
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}

/// How long an answer asks us to wait; the seconds of `Retry-After`, which is what collectors send.
fn pause(response: &Response<Bytes>) -> Option<Duration> {
    let throttles = [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::SERVICE_UNAVAILABLE,
    ];
    if !throttles.contains(&response.status()) {
        return None;
    }
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    let seconds = seconds.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_PAUSE))
}
