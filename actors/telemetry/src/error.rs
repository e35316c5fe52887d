//! Errors of the setup and of calls of telemetry.

use std::io;
use std::path::PathBuf;

use tracing_subscriber::filter::ParseError;
use tracing_subscriber::reload;

/// An error of [`install`](super::install), of a [`Telemetry`](super::Telemetry) handle or of its
/// actor.
///
/// Export errors are not among them: they are counted and make the component `degraded`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The log filter is not in the syntax of `EnvFilter`.
    #[error("failed to parse log filter `{directives:.100}`")]
    LogFilter {
        /// The given value.
        directives: String,
        /// The problem.
        #[source]
        source: ParseError,
    },
    /// The log filter is one word that is no level, so that it would silence everything.
    #[error(
        "unknown log level `{0:.100}`: expected `error`, `warn`, `info`, `debug`, `trace` or `off`"
    )]
    LogLevel(String),
    /// A target is not the name of a module.
    #[error("unusable log target `{0:.100}`: expected the path of a module, such as `dotmac_db`")]
    LogTarget(String),
    /// More changes of the log level than can be kept.
    #[error("more than {0} log levels are changed already: reset some first")]
    TooManyLevels(usize),
    /// The log filter could not be exchanged.
    #[error("failed to reload the log filter")]
    Reload(#[source] reload::Error),
    /// The process already has a global subscriber.
    #[error("failed to install the log subscriber: the process already has one")]
    AlreadyInstalled,
    /// The collector's endpoint cannot be used.
    #[error("failed to use OTLP endpoint `{endpoint}`: {problem}")]
    Endpoint {
        /// The endpoint without credentials.
        endpoint: String,
        /// The problem.
        problem: &'static str,
    },
    /// A certificate or key for the collector cannot be used.
    #[error("failed to use `{path}` for TLS to the collector: {problem}")]
    TlsFile {
        /// Which file.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// A header for the collector cannot be sent. Its value is not shown.
    #[error(
        "failed to use the header `{name}` for the collector: its value is not allowed in a header"
    )]
    Header {
        /// Its name.
        name: String,
    },
    /// The HTTP client of an exporter could not be built.
    #[error("failed to build the HTTP client for the collector")]
    Client(#[source] reqwest::Error),
    /// The sample ratio is not between 0 and 1.
    #[error("sample ratio {0} is not between 0.0 and 1.0")]
    SampleRatio(f64),
    /// The registry behind `/metrics` could not be set up.
    #[error("failed to set up the metrics registry: {0}")]
    Registry(String),
    /// The metrics could not be written as text.
    #[error("failed to encode metrics")]
    Scrape(#[source] prometheus::Error),
    /// An exporter could not be built. The text is free of credentials.
    #[error("failed to build the exporter of {signal}: {problem}")]
    Exporter {
        /// Whose exporter.
        signal: &'static str,
        /// The error of the exporter.
        problem: String,
    },
    /// The thread pool of the exporters could not be started.
    #[error("failed to start the export runtime")]
    Runtime(#[source] io::Error),
}
