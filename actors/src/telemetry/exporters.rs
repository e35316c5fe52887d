//! Builds the real exporters and plugs them into the outlets.
//!
//! Building must happen inside the runtime that will drive the connections: the gRPC channel takes
//! the reactor it finds.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_otlp::{
    ExporterBuildError, LogExporter, MetricExporter, Protocol as OtlpProtocol, RetryPolicy,
    SpanExporter, WithExportConfig as _, WithHttpConfig as _, WithTonicConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::LogExporter as _;
use opentelemetry_sdk::trace::SpanExporter as _;

use super::config::{Otlp, Protocol};
use super::error::TelemetryError;
use super::outlet::Outlet;
use super::runtime::ExportRuntime;
use super::tally::Signal;

/// The outlets of the signals that are exported.
#[derive(Clone, Debug, Default)]
pub(super) struct Outlets {
    pub(super) traces: Option<Outlet<SpanExporter>>,
    pub(super) metrics: Option<Outlet<MetricExporter>>,
    pub(super) logs: Option<Outlet<LogExporter>>,
}

/// Exporters that are plugged in. Unplugged when dropped, unless [left](Attachment::leave).
#[derive(Debug)]
pub(super) struct Attachment {
    outlets: Outlets,
    runtime: Arc<ExportRuntime>,
    stays: bool,
}

impl Outlets {
    /// Builds an exporter for each outlet and plugs it in. Connects to nothing yet.
    ///
    /// # Errors
    ///
    /// [`TelemetryError::Runtime`] and [`TelemetryError::Exporter`]; nothing is attached then.
    pub(super) fn attach(
        &self,
        otlp: &Otlp,
        resource: &Resource,
    ) -> Result<Attachment, TelemetryError> {
        let runtime = ExportRuntime::start()?;
        let inside = runtime.handle().enter();
        let traces = self
            .traces
            .as_ref()
            .map(|_| span_exporter(otlp, resource))
            .transpose();
        let metrics = self
            .metrics
            .as_ref()
            .map(|_| metric_exporter(otlp))
            .transpose();
        let logs = self
            .logs
            .as_ref()
            .map(|_| log_exporter(otlp, resource))
            .transpose();
        drop(inside);
        let refused = |signal: Signal| {
            move |error: ExporterBuildError| TelemetryError::Exporter {
                signal: signal.as_str(),
                // The exporter quotes the endpoint as it was given, password included.
                problem: error
                    .to_string()
                    .replace(&otlp.endpoint, &otlp.public_endpoint()),
            }
        };
        let traces = traces.map_err(refused(Signal::Traces))?;
        let metrics = metrics.map_err(refused(Signal::Metrics))?;
        let logs = logs.map_err(refused(Signal::Logs))?;
        plug(self.traces.as_ref(), traces, &runtime);
        plug(self.metrics.as_ref(), metrics, &runtime);
        plug(self.logs.as_ref(), logs, &runtime);
        Ok(Attachment {
            outlets: self.clone(),
            runtime,
            stays: false,
        })
    }

    /// Tries the collector once for every signal, without waiting for the results.
    pub(super) fn probe(&self) {
        if let Some(outlet) = &self.traces {
            outlet.probe();
        }
        if let Some(outlet) = &self.metrics {
            outlet.probe();
        }
        if let Some(outlet) = &self.logs {
            outlet.probe();
        }
    }
}

fn plug<E>(outlet: Option<&Outlet<E>>, exporter: Option<E>, runtime: &Arc<ExportRuntime>) {
    if let (Some(outlet), Some(exporter)) = (outlet, exporter) {
        outlet.attach(exporter, Arc::clone(runtime));
    }
}

impl Attachment {
    /// Keeps the exporters in place beyond the owner's life, so that what is logged later can still
    /// be flushed.
    pub(super) fn leave(&mut self) {
        self.stays = true;
    }

    pub(super) fn runtime(&self) -> &Arc<ExportRuntime> {
        &self.runtime
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        if let Some(outlet) = &self.outlets.traces {
            outlet.detach(&self.runtime);
        }
        if let Some(outlet) = &self.outlets.metrics {
            outlet.detach(&self.runtime);
        }
        if let Some(outlet) = &self.outlets.logs {
            outlet.detach(&self.runtime);
        }
    }
}

/// Time-out and retries of the exporters themselves.
///
/// The outlet's time-out is the one that counts. The exporters' own comes later, and their retries,
/// meant for a collector that is just being restarted, end well before it; so each failure is
/// reported as what it was: no answer as no answer, a refused connection as that.
struct Patience {
    timeout: Duration,
    retry: RetryPolicy,
}

impl Patience {
    fn of(otlp: &Otlp) -> Self {
        let limit = otlp.export_timeout;
        let retry = RetryPolicy::recommended()
            .with_max_retries(2)
            .with_initial_delay(limit / 20)
            .with_max_delay(limit / 10)
            .with_max_jitter(limit / 50);
        Self {
            timeout: limit.saturating_mul(2),
            retry,
        }
    }
}

fn span_exporter(otlp: &Otlp, resource: &Resource) -> Result<SpanExporter, ExporterBuildError> {
    let (builder, patience) = (SpanExporter::builder(), Patience::of(otlp));
    let mut exporter = match otlp.protocol {
        Protocol::Grpc => builder
            .with_tonic()
            .with_endpoint(&otlp.endpoint)
            .with_timeout(patience.timeout)
            .with_retry_policy(patience.retry)
            .build(),
        Protocol::Http => builder
            .with_http()
            .with_protocol(OtlpProtocol::HttpBinary)
            .with_endpoint(otlp.http_url("v1/traces"))
            .with_timeout(patience.timeout)
            .with_retry_policy(patience.retry)
            .build(),
    }?;
    exporter.set_resource(resource);
    Ok(exporter)
}

fn metric_exporter(otlp: &Otlp) -> Result<MetricExporter, ExporterBuildError> {
    let (builder, patience) = (MetricExporter::builder(), Patience::of(otlp));
    match otlp.protocol {
        Protocol::Grpc => builder
            .with_tonic()
            .with_endpoint(&otlp.endpoint)
            .with_timeout(patience.timeout)
            .with_retry_policy(patience.retry)
            .build(),
        Protocol::Http => builder
            .with_http()
            .with_protocol(OtlpProtocol::HttpBinary)
            .with_endpoint(otlp.http_url("v1/metrics"))
            .with_timeout(patience.timeout)
            .with_retry_policy(patience.retry)
            .build(),
    }
}

fn log_exporter(otlp: &Otlp, resource: &Resource) -> Result<LogExporter, ExporterBuildError> {
    let (builder, patience) = (LogExporter::builder(), Patience::of(otlp));
    let mut exporter = match otlp.protocol {
        Protocol::Grpc => builder
            .with_tonic()
            .with_endpoint(&otlp.endpoint)
            .with_timeout(patience.timeout)
            .with_retry_policy(patience.retry)
            .build(),
        Protocol::Http => builder
            .with_http()
            .with_protocol(OtlpProtocol::HttpBinary)
            .with_endpoint(otlp.http_url("v1/logs"))
            .with_timeout(patience.timeout)
            .with_retry_policy(patience.retry)
            .build(),
    }?;
    exporter.set_resource(resource);
    Ok(exporter)
}
