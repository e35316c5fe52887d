//! How a collector is reached: headers, certificates, compression, time-outs.
//!
//! Everything comes from [`Otlp`]. OpenTelemetry's own exporters would read `OTEL_EXPORTER_OTLP_HEADERS`
//! from the environment by themselves; here the headers of a request are those that the settings name
//! and no others.

use std::{fmt, mem, path::Path, sync::Arc};

use http::uri::PathAndQuery;
use reqwest::{
    header::{HeaderMap, HeaderName, HeaderValue},
    redirect,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use secrecy::ExposeSecret as _;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::{
    BuildError,
    sender::{Sender, Way},
};
use crate::{
    config::{Compression, Otlp, Protocol, Tls},
    error::TelemetryError,
    tally::{Signal, SignalCounters},
};

/// Who we are to a collector.
const USER_AGENT: &str = concat!("dotmac/", env!("CARGO_PKG_VERSION"));

/// The shared state of the senders of one collector.
pub(crate) struct Transport<'a> {
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
    pub(crate) fn new(otlp: &'a Otlp) -> Result<Self, TelemetryError> {
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

    /// A sender of `signal`, which connects when it has something to send. Must run inside the runtime
    /// that is to drive its connections.
    ///
    /// # Errors
    ///
    /// [`BuildError`] for an endpoint that is no address, or a client that cannot be built.
    pub(crate) fn sender(
        &self,
        signal: Signal,
        tally: &Arc<SignalCounters>,
    ) -> Result<Sender, BuildError> {
        let way = match self.otlp.protocol {
            Protocol::Grpc => self.grpc(signal)?,
            Protocol::Http => self.http(signal)?,
        };
        Ok(Sender {
            way,
            headers: self.headers.clone(),
            gzip: self.otlp.compression == Compression::Gzip,
            tally: Arc::clone(tally),
            limit: self.otlp.export_timeout,
        })
    }

    fn grpc(&self, signal: Signal) -> Result<Way, BuildError> {
        let mut endpoint =
            Endpoint::from_shared(self.otlp.endpoint.clone())?.user_agent(USER_AGENT)?;
        if let Some(pem) = &self.pem {
            endpoint = endpoint.tls_config(pem.for_grpc())?;
        }
        let method = match signal {
            Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        };
        Ok(Way::Grpc {
            channel: endpoint.connect_lazy(),
            method: PathAndQuery::from_static(method),
        })
    }

    fn http(&self, signal: Signal) -> Result<Way, BuildError> {
        let path = match signal {
            Signal::Traces => "v1/traces",
            Signal::Metrics => "v1/metrics",
            Signal::Logs => "v1/logs",
        };
        let url = reqwest::Url::parse(&self.otlp.http_url(path));
        Ok(Way::Http {
            client: self.client()?,
            url: url.map_err(|problem| BuildError::Url(problem.to_string()))?,
        })
    }

    /// Follows no redirection and uses no proxy of the environment: the headers, who we are, go to the configured
    /// endpoint alone. The channel for gRPC knows neither.
    fn client(&self) -> Result<reqwest::Client, TelemetryError> {
        let mut builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(self.otlp.export_timeout);
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
    dotmac_bounded_read::read(path)
        .map(|mut content| mem::take(&mut *content))
        .map_err(|error| unusable(path, error))
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
