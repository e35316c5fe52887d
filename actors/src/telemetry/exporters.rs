//! Builds the real exporters and plugs them into the outlets.
//!
//! Building must happen inside the runtime that will drive the connections: the gRPC channel takes
//! the reactor it finds.

use std::sync::Arc;

use opentelemetry_otlp::{ExporterBuildError, LogExporter, MetricExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::LogExporter as _;

use super::config::{Destinations, Protocol};
use super::encode::Resourced;
use super::error::TelemetryError;
use super::outlet::Outlet;
use super::runtime::ExportRuntime;
use super::spans::SpanSender;
use super::tally::Signal;
use super::transport::Transport;

/// The outlets of the signals that are exported.
#[derive(Clone, Debug, Default)]
pub(super) struct Outlets {
    pub(super) traces: Option<Outlet<SpanSender>>,
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
    /// [`TelemetryError::Runtime`], [`TelemetryError::Exporter`], and what
    /// [`Config::check`](super::Config::check) would find by now; nothing is attached then.
    pub(super) fn attach(
        &self,
        otlp: &Destinations,
        resource: &Resource,
    ) -> Result<Attachment, TelemetryError> {
        let runtime = ExportRuntime::start()?;
        let inside = runtime.handle().enter();
        let traces = built(
            Signal::Traces,
            self.traces.as_ref(),
            otlp,
            |transport, it| span_exporter(transport, it, resource),
        )?;
        let metrics = built(
            Signal::Metrics,
            self.metrics.as_ref(),
            otlp,
            metric_exporter,
        )?;
        let logs = built(Signal::Logs, self.logs.as_ref(), otlp, |transport, it| {
            log_exporter(transport, it, resource)
        })?;
        drop(inside);
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

/// The exporter of one signal, if it has an outlet and a destination.
fn built<E>(
    signal: Signal,
    outlet: Option<&Outlet<E>>,
    otlp: &Destinations,
    build: impl FnOnce(&Transport<'_>, &Outlet<E>) -> Result<E, BuildError>,
) -> Result<Option<E>, TelemetryError> {
    let Some((outlet, otlp)) = outlet.zip(otlp.of(signal)) else {
        return Ok(None);
    };
    let transport = Transport::new(otlp)?;
    build(&transport, outlet)
        .map(Some)
        .map_err(|error| match error {
            BuildError::Transport(error) => error,
            error => TelemetryError::Exporter {
                signal: signal.as_str(),
                // The exporter quotes the endpoint as it was given, password included.
                problem: error
                    .to_string()
                    .replace(&otlp.endpoint, &otlp.public_endpoint()),
            },
        })
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

fn span_exporter(
    transport: &Transport<'_>,
    outlet: &Outlet<SpanSender>,
    resource: &Resource,
) -> Result<SpanSender, BuildError> {
    Ok(SpanSender {
        way: transport.for_spans(outlet.tally())?,
        resourced: Resourced::new(resource),
        tally: Arc::clone(outlet.tally()),
        limit: transport.limit(),
    })
}

fn metric_exporter(
    transport: &Transport<'_>,
    outlet: &Outlet<MetricExporter>,
) -> Result<MetricExporter, BuildError> {
    let builder = MetricExporter::builder();
    Ok(match transport.protocol() {
        Protocol::Grpc => transport.grpc(builder.with_tonic()).build(),
        Protocol::Http => transport
            .http(builder.with_http(), "v1/metrics", outlet.tally())?
            .build(),
    }?)
}

fn log_exporter(
    transport: &Transport<'_>,
    outlet: &Outlet<LogExporter>,
    resource: &Resource,
) -> Result<LogExporter, BuildError> {
    let builder = LogExporter::builder();
    let mut exporter = match transport.protocol() {
        Protocol::Grpc => transport.grpc(builder.with_tonic()).build(),
        Protocol::Http => transport
            .http(builder.with_http(), "v1/logs", outlet.tally())?
            .build(),
    }?;
    exporter.set_resource(resource);
    Ok(exporter)
}

/// Why an exporter cannot be built, before it is known whose.
#[derive(Debug, thiserror::Error)]
pub(super) enum BuildError {
    #[error(transparent)]
    Exporter(#[from] ExporterBuildError),
    #[error(transparent)]
    Endpoint(#[from] tonic::transport::Error),
    #[error(transparent)]
    Url(#[from] http::uri::InvalidUri),
    #[error(transparent)]
    Transport(#[from] TelemetryError),
}
