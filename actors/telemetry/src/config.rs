//! The configuration of telemetry: plain values, already checked by the reader of the settings.

use std::{fmt, path::PathBuf, time::Duration};

use secrecy::SecretString;

use super::{error::TelemetryError, otlp::Transport, tally::Signal};

/// Everything [`install`](super::install) needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which events are logged, in the syntax of `tracing`'s `EnvFilter`: `info`, or
    /// `warn,dotmac=debug`.
    pub log_filter: String,
    /// How many lines each place in the code may log in a second, the access log excepted; 0 for no
    /// limit.
    pub log_limit: u32,
    /// How a line on standard output looks.
    pub log_format: LogFormat,
    /// Where the signals are exported to; with nowhere at all no thread is started.
    pub otlp: Destinations,
    /// Share of the traces that is recorded, 0.0 to 1.0.
    pub sample_ratio: f64,
    /// Whether a trace that a caller began follows the caller's decision instead.
    pub sample_parent_based: bool,
    /// The queue of spans.
    pub span_queue: Queue,
    /// The queue of log events.
    pub log_queue: Queue,
    /// Time between two exports of all metrics.
    pub metric_interval: Duration,
    /// `service.name`.
    pub service_name: String,
    /// Whether that name was configured; otherwise one among the resource attributes wins.
    pub service_name_is_given: bool,
    /// `service.instance.id`: which of several such processes, another one after each start.
    pub instance_id: String,
    /// `service.version`, and the label `version` of `dotmac_build_info`.
    pub service_version: String,
    /// `deployment.environment.name`.
    pub environment: String,
    /// Further resource attributes; these win over the ones above.
    pub resource_attributes: Vec<(String, String)>,
    /// Further labels of `dotmac_build_info`, such as `commit` and `rustc`.
    pub build_info: Vec<(String, String)>,
}

impl Default for Config {
    /// Logs at `info` as JSON, no collector.
    fn default() -> Self {
        Self {
            log_filter: "info".to_owned(),
            log_limit: 100,
            log_format: LogFormat::Json,
            otlp: Destinations::default(),
            sample_ratio: 1.0,
            sample_parent_based: true,
            span_queue: Queue::default(),
            log_queue: Queue::default(),
            metric_interval: Duration::from_secs(30),
            service_name: "dotmac-platform".to_owned(),
            service_name_is_given: false,
            instance_id: std::process::id().to_string(),
            service_version: env!("CARGO_PKG_VERSION").to_owned(),
            environment: "development".to_owned(),
            resource_attributes: Vec::new(),
            build_info: Vec::new(),
        }
    }
}

/// Size of a queue, and of its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Most items that wait, those in an export under way included; what is more is dropped and counted.
    pub size: usize,
    /// Most items in one export, limited to at least 1 and at most the whole queue.
    pub batch: usize,
    /// Longest time an item waits for others to go with it.
    pub delay: Duration,
}

impl Default for Queue {
    /// 2048 items, 512 in an export, as the standard has them, and 1 s, as it has for logs; its 5 s for
    /// spans would also delay the notice that a collector is away.
    fn default() -> Self {
        Self {
            size: 2048,
            batch: 512,
            delay: Duration::from_secs(1),
        }
    }
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For a person at a terminal.
    Pretty {
        /// Whether levels are coloured with ANSI sequences.
        color: bool,
    },
    /// One JSON object a line, for machines.
    Json,
}

/// Where each signal goes; `None` is not exported.
#[derive(Clone, Debug, Default)]
pub struct Destinations {
    /// Of the spans.
    pub traces: Option<Otlp>,
    /// Of the metrics. The Prometheus text of [`Scrape`](super::Scrape) is there in any case.
    pub metrics: Option<Otlp>,
    /// Of the log events. They are written to standard output in any case.
    pub logs: Option<Otlp>,
}

impl Destinations {
    /// All signals to one collector.
    #[must_use]
    pub fn one(otlp: Otlp) -> Self {
        Self {
            traces: Some(otlp.clone()),
            metrics: Some(otlp.clone()),
            logs: Some(otlp),
        }
    }

    pub(super) fn of(&self, signal: Signal) -> Option<&Otlp> {
        match signal {
            Signal::Traces => self.traces.as_ref(),
            Signal::Metrics => self.metrics.as_ref(),
            Signal::Logs => self.logs.as_ref(),
        }
    }

    /// Those of the signals that are exported.
    pub(super) fn each(&self) -> impl Iterator<Item = &Otlp> {
        Signal::ALL.into_iter().filter_map(|signal| self.of(signal))
    }

    /// Sends `headers` too wherever none are sent yet.
    pub(super) fn add_headers(&mut self, headers: &[(String, SecretString)]) {
        let all = [&mut self.traces, &mut self.metrics, &mut self.logs];
        let bare = all.into_iter().flatten().filter(|it| it.headers.is_empty());
        bare.for_each(|otlp| otlp.headers = headers.to_vec());
    }

    /// Longest time that one export of any signal may take; `None` without any.
    pub(super) fn longest_export(&self) -> Option<Duration> {
        self.each().map(|otlp| otlp.export_timeout).max()
    }
}

/// A collector that speaks the OpenTelemetry protocol.
#[derive(Clone)]
pub struct Otlp {
    /// `http://host:4317` for gRPC, `http://host:4318` for HTTP.
    pub endpoint: String,
    /// Whether `/v1/traces` and so on are appended to it for HTTP. By the standard they are unless it
    /// was given for one signal.
    pub appends_path: bool,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Names and values sent with every request: who we are, in most cases.
    pub headers: Vec<(String, SecretString)>,
    /// How bodies are made smaller.
    pub compression: Compression,
    /// Trusted authorities, and our own certificate; used for `https://` only.
    pub tls: Tls,
    /// Longest time one export may take. The longest of all signals is also how long
    /// [`Telemetry::flush`](super::Telemetry::flush) takes at most when the actor stops, over all signals.
    pub export_timeout: Duration,
}

/// The two transports of OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC over HTTP/2.
    Grpc,
    /// Binary protobuf over HTTP.
    Http,
}

/// How the body of an export is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// By gzip.
    Gzip,
}

/// Certificates for a collector behind `https://`.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// PEM file of the authorities to trust in place of the system's.
    pub ca_cert: Option<PathBuf>,
    /// The client certificate for a collector that requires one.
    pub client: Option<ClientCertificate>,
}

/// A certificate of our own and its key, both PEM files.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// Certificate chain, our own certificate first.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Otlp {
    /// A collector that needs neither headers nor certificates of its own.
    #[must_use]
    pub fn new(endpoint: impl Into<String>, protocol: Protocol, export_timeout: Duration) -> Self {
        Self {
            endpoint: endpoint.into(),
            appends_path: true,
            protocol,
            headers: Vec::new(),
            compression: Compression::default(),
            tls: Tls::default(),
            export_timeout,
        }
    }

    /// Whether the collector is reached by TLS.
    pub(super) fn is_encrypted(&self) -> bool {
        self.endpoint.starts_with("https://")
    }

    /// The endpoint as it may be shown: without user, password and query.
    #[must_use]
    pub fn public_endpoint(&self) -> String {
        let (scheme, rest) = self
            .endpoint
            .split_once("://")
            .unwrap_or(("", &self.endpoint));
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let host = authority.rsplit('@').next().unwrap_or_default();
        let scheme = if scheme.is_empty() {
            String::new()
        } else {
            format!("{scheme}://")
        };
        let path = if path.is_empty() {
            String::new()
        } else {
            format!("/{path}")
        };
        format!("{scheme}{host}{path}")
    }

    /// Where one signal goes over HTTP, for example `http://host:4318/v1/traces`.
    pub(super) fn http_url(&self, path: &str) -> String {
        if !self.appends_path {
            return self.endpoint.clone();
        }
        format!("{}/{path}", self.endpoint.trim_end_matches('/'))
    }
}

// The endpoint may carry a password, and a header mostly does.
impl fmt::Debug for Otlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Otlp")
            .field("endpoint", &self.public_endpoint())
            .field("protocol", &self.protocol)
            .field("compression", &self.compression)
            .field("tls", &self.tls)
            .field("export_timeout", &self.export_timeout)
            .finish()
    }
}

impl Config {
    /// Looks for what would only be noticed much later, when the first export is tried.
    ///
    /// # Errors
    ///
    /// [`TelemetryError::Endpoint`], [`TelemetryError::SampleRatio`], [`TelemetryError::TlsFile`]
    /// and [`TelemetryError::Header`].
    pub fn check(&self) -> Result<(), TelemetryError> {
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            return Err(TelemetryError::SampleRatio(self.sample_ratio));
        }
        self.otlp.each().try_for_each(Otlp::check)
    }
}

impl Otlp {
    fn check(&self) -> Result<(), TelemetryError> {
        let refuse = |problem| {
            let endpoint = self.public_endpoint();
            Err(TelemetryError::Endpoint { endpoint, problem })
        };
        let host = match self.endpoint.split_once("://") {
            Some(("http" | "https", rest)) => rest,
            _ => return refuse("it must begin with `http://` or `https://`"),
        };
        let odd = |c: char| c.is_whitespace() || c.is_control();
        if host.is_empty() || host.starts_with(['/', ':', '?']) || host.contains(odd) {
            return refuse("it must name a host, such as `http://localhost:4317`");
        }
        if self.export_timeout.is_zero() {
            return refuse("its export timeout must be longer than zero");
        }
        Transport::new(self).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn otlp(endpoint: &str, protocol: Protocol) -> Config {
        Config {
            otlp: Destinations::one(Otlp::new(endpoint, protocol, Duration::from_secs(1))),
            ..Config::default()
        }
    }

    #[test]
    fn an_endpoint_is_shown_without_its_credentials() {
        let config = otlp(
            "http://user:pa@ss@collector:4318/otlp?token=x",
            Protocol::Http,
        );
        let shown = config.otlp.traces.as_ref().map(Otlp::public_endpoint);
        assert_eq!(shown.as_deref(), Some("http://collector:4318/otlp"));
        assert!(!format!("{config:?}").contains("pa@ss"));
    }

    #[test]
    fn mistakes_are_found_before_anything_starts() {
        assert!(Config::default().check().is_ok());
        assert!(
            otlp("http://localhost:4317", Protocol::Grpc)
                .check()
                .is_ok()
        );
        assert!(
            otlp("https://collector.example", Protocol::Http)
                .check()
                .is_ok()
        );
        assert!(
            otlp("https://collector.example", Protocol::Grpc)
                .check()
                .is_ok()
        );
        assert!(otlp("localhost:4317", Protocol::Grpc).check().is_err());
        assert!(otlp("http://:4317", Protocol::Grpc).check().is_err());
        assert!(otlp("http://a b", Protocol::Grpc).check().is_err());
        let ratio = Config {
            sample_ratio: 1.5,
            ..Config::default()
        };
        assert!(matches!(ratio.check(), Err(TelemetryError::SampleRatio(_))));
    }

    #[test]
    fn a_file_that_is_no_certificate_is_named_at_once() {
        let mut config = otlp("https://collector.example", Protocol::Grpc);
        for path in ["/nowhere/ca.pem", "/dev/null"] {
            if let Some(otlp) = &mut config.otlp.traces {
                otlp.tls.ca_cert = Some(path.into());
            }
            let said = config.check().map_err(|error| error.to_string());
            assert!(said.is_err_and(|text| text.contains(path)));
        }
    }

    #[test]
    fn the_value_of_a_header_is_never_shown() {
        let mut config = otlp("http://collector.example", Protocol::Grpc);
        for value in ["Bearer sekret", "sekret\n"] {
            if let Some(otlp) = &mut config.otlp.traces {
                otlp.headers = vec![("authorization".to_owned(), value.into())];
            }
            assert!(!format!("{config:?} {:?}", config.check()).contains("sekret"));
        }
        assert!(
            matches!(config.check(), Err(TelemetryError::Header { name }) if name == "authorization")
        );
    }
}
