//! Logs, traces and metrics: set up before anything else, exported under supervision.
//!
//! Two parts with two lives. [`install`] builds what lives as long as the process: the log output,
//! the tracer, the meters, the bounded queues before the export. It is cheap, and without a
//! collector it starts no thread. [`TelemetryActor`] brings what can fail: it builds the exporters
//! on a runtime of their own, plugs them into the queues, watches whether the collector takes what
//! it is sent and says so to its supervisor. Until it runs, and while it is restarted, spans and
//! log records wait in their queues; so the trace of the start itself arrives once telemetry is up.
//!
//! Code elsewhere uses the `tracing` macros and `opentelemetry::global::meter`, nothing from here.

mod actor;
mod config;
mod error;
mod exemplars;
mod exporters;
mod fields;
mod filter;
mod flush;
pub mod instruments;
mod line;
mod logs;
mod metrics;
mod openmetrics;
mod outlet;
mod pipeline;
mod process;
mod queue;
mod resource;
mod runtime;
mod runtimes;
mod stdout;
mod tally;
#[cfg(test)]
mod tests;
mod transport;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::global;
use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;

pub use actor::{
    MISCONFIGURED, NO_ANSWER, NO_RESOURCES, RATE_LIMITED, REJECTED, TLS_FAILED, TelemetryActor,
};
pub use config::{ClientCertificate, Compression, Config, LogFormat, Otlp, Protocol, Tls};
pub use error::TelemetryError;
pub use flush::Flushed;
pub use metrics::{Scrape, TextFormat};
pub use runtimes::watch_runtime;
pub use tally::{DropReason, Signal};

use filter::LogFilter;
use pipeline::Pipelines;
use stdout::Output;

/// A handle to everything [`install`] built. Clones are the same telemetry.
#[derive(Clone)]
pub struct Telemetry(Arc<Inner>);

struct Inner {
    otlp: Option<Otlp>,
    pipelines: Pipelines,
    /// One for each log output; they hold filters of different types.
    filters: Vec<pipeline::SetFilter>,
}

/// Sets up logging, traces and metrics for the whole process, before anything that may log.
///
/// Sets the global `tracing` subscriber, and OpenTelemetry's global tracer provider, meter provider
/// and propagator (W3C trace context). Starts no thread unless a collector is configured, and
/// connects to nothing.
///
/// # Errors
///
/// What [`Config::check`] finds, [`TelemetryError::LogFilter`] and [`TelemetryError::LogLevel`] for
/// an unusable filter, [`TelemetryError::AlreadyInstalled`] if the process has a subscriber.
pub fn install(config: &Config) -> Result<Telemetry, TelemetryError> {
    let (telemetry, dispatch) = pipeline::assemble(config, Output::stdout())?;
    tracing::dispatcher::set_global_default(dispatch)
        .map_err(|_| TelemetryError::AlreadyInstalled)?;
    global::set_text_map_propagator(TraceContextPropagator::new());
    global::set_tracer_provider(telemetry.0.pipelines.traces.clone());
    global::set_meter_provider(telemetry.0.pipelines.meters.clone());
    Ok(telemetry)
}

impl Telemetry {
    /// Changes which events are logged, on standard output and over OTLP, from now on. Traces are
    /// not affected.
    ///
    /// `directives` is in the syntax of `EnvFilter`: `info`, or `warn,dotmac=debug`.
    ///
    /// # Errors
    ///
    /// [`TelemetryError::LogFilter`] and [`TelemetryError::LogLevel`]; the former filter stays.
    pub fn set_log_filter(&self, directives: &str) -> Result<(), TelemetryError> {
        // All are parsed before any is set.
        let parsed = self
            .0
            .filters
            .iter()
            .map(|_| LogFilter::parse(directives))
            .collect::<Result<Vec<_>, _>>()?;
        self.0
            .filters
            .iter()
            .zip(parsed)
            .try_for_each(|(set, filter)| set(filter))
    }

    /// What serves `/metrics`.
    #[must_use]
    pub fn scrape(&self) -> Scrape {
        self.0.pipelines.scrape.clone()
    }

    /// The meter of the platform's own instruments; names are in [`instruments`].
    #[must_use]
    pub fn meter(&self) -> Meter {
        self.0.pipelines.meters.meter(metrics::SCOPE)
    }

    /// Sends what waits for export, all signals at once, and gives up after `limit`.
    ///
    /// Blocks, so it belongs on a thread that may: a blocking task, or the end of `main`. The
    /// exporters stay in place when the actor has been stopped, so the spans and lines of the stop
    /// itself can still be sent. What is lost is counted and logged.
    pub fn flush(&self, limit: Duration) -> Flushed {
        flush::flush(&self.0.pipelines, limit)
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry")
            .field("otlp", &self.0.otlp)
            .finish_non_exhaustive()
    }
}
