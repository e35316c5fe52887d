//! Logs, traces and metrics: set up before anything else, exported under supervision.
//!
//! Two parts with two lives. [`install`] builds what lives as long as the process: the log output,
//! the tracer, the meters, the bounded queues before the export. It is cheap, and without a
//! collector it starts no thread. [`TelemetryActor`] has the parts that can fail: it creates the exporters on a
//! separate runtime, connects them to the queues, watches the collector's answers and reports to its supervisor. Until
//! it runs, and while it is restarted, spans and log records wait in their queues; so the trace of the start itself
//! arrives once telemetry is up.
//!
//! Rooms: `log` writes lines to standard output, `otlp` exports to the collector, `metrics` serves the instruments to
//! both; `pipeline` puts the three together.
//!
//! Code elsewhere uses the `tracing` macros and `opentelemetry::global::meter`, nothing from here.

mod actor;
mod config;
mod error;
mod flush;
pub mod instruments;
mod log;
mod metrics;
mod otlp;
mod pipeline;
mod resource;
mod tally;
#[cfg(test)]
mod tests;
mod watch;

use std::{fmt, sync::Arc, time::Duration};

use opentelemetry::{
    global,
    metrics::{Meter, MeterProvider as _},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;

pub use actor::{
    MISCONFIGURED, NO_ANSWER, NO_RESOURCES, RATE_LIMITED, REJECTED, TLS_FAILED, TelemetryActor,
};
pub use config::{
    ClientCertificate, Compression, Config, Destinations, LogFormat, Otlp, Protocol, Queue, Tls,
};
pub use error::TelemetryError;
pub use flush::Flushed;
pub use log::{LevelChange, LoggedError};
pub use metrics::{Scrape, TextFormat, watch_runtime, watch_runtime_of};
pub use tally::{DropReason, Signal};

use log::{LastErrors, Levels, Limiter, Output};
use pipeline::Pipelines;

/// A handle to everything [`install`] built. Clones are the same telemetry.
#[derive(Clone)]
pub struct Telemetry(Arc<Inner>);

struct Inner {
    otlp: Destinations,
    pipelines: Pipelines,
    levels: Levels,
    limiter: Limiter,
    last_errors: LastErrors,
}

/// Sets up logging, traces and metrics for the whole process, before anything that may log.
///
/// Sets the global `tracing` subscriber, and OpenTelemetry's global tracer provider, meter provider
/// and propagator (W3C trace context). Starts no thread unless a collector is configured, and
/// connects to nothing.
///
/// # Errors
///
/// The errors of [`Config::check`], [`TelemetryError::LogFilter`] and [`TelemetryError::LogLevel`] for
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
    /// Says which events are logged, on standard output and over OTLP, from now on, as far as
    /// [no operator](Self::change_log_level) wishes otherwise. Traces are not affected.
    ///
    /// `directives` is in the syntax of `EnvFilter`: `info`, or `warn,dotmac=debug`.
    ///
    /// # Errors
    ///
    /// [`TelemetryError::LogFilter`] and [`TelemetryError::LogLevel`]; the former filter stays.
    pub fn set_log_filter(&self, directives: &str) -> Result<(), TelemetryError> {
        self.0.levels.set_base(directives)
    }

    /// Overrides [the configured log filter](Self::set_log_filter) until cleared or expired. Returns the directives
    /// now in force.
    ///
    /// # Errors
    ///
    /// [`TelemetryError::LogFilter`], [`TelemetryError::LogLevel`], [`TelemetryError::LogTarget`] and
    /// [`TelemetryError::TooManyLevels`]; nothing has changed then.
    pub fn change_log_level(&self, change: LevelChange) -> Result<String, TelemetryError> {
        let lasting = change.lasting;
        self.0.levels.change(change)?;
        if let Some(lasting) = lasting {
            self.expire_after(lasting)?;
        }
        Ok(self.log_filter())
    }

    /// The last warning or error with a cause that `component` logged. The cause may be gone by now. `None`
    /// if there was none, or if the log filter excludes it.
    #[must_use]
    pub fn last_error(&self, component: &str) -> Option<LoggedError> {
        self.0.last_errors.of(component)
    }

    /// Directives of what is logged now.
    #[must_use]
    pub fn log_filter(&self) -> String {
        self.0.levels.effective()
    }

    /// A thread, because nothing else here is sure to run then. Not joined: it ends by itself, or with
    /// the process.
    fn expire_after(&self, lasting: Duration) -> Result<(), TelemetryError> {
        let telemetry = self.clone();
        let wait = move || {
            #[expect(clippy::disallowed_methods, reason = "this thread exists to wait")]
            std::thread::sleep(lasting);
            telemetry.0.levels.expire();
        };
        std::thread::Builder::new()
            .name("log-level".to_owned())
            .spawn(wait)
            .map(drop)
            .map_err(TelemetryError::Runtime)
    }

    /// The source of `/metrics`.
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
        self.0.limiter.report();
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
