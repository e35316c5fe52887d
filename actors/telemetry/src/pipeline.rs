//! Puts the subscriber, the three providers and the queues together.

use std::sync::Arc;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::{
    logs::SdkLoggerProvider,
    metrics::SdkMeterProvider,
    trace::{Sampler, SdkTracerProvider},
};
use tracing::Dispatch;
use tracing_subscriber::{Layer as _, Registry, layer::SubscriberExt as _};

use super::{
    Inner, Telemetry,
    config::Config,
    error::TelemetryError,
    log::{Exported, LastErrors, Levels, Limited, Limiter, LogFilter, LogLayer, Output, filter},
    metrics::{self, NotingMeterProvider, SCOPE, Scrape},
    otlp::{LogQueue, SenderSlots, SpanQueue},
    resource,
    tally::{Signal, SignalCounters},
};

/// State that lives as long as the process.
pub(super) struct Pipelines {
    pub(super) traces: SdkTracerProvider,
    pub(super) metrics: SdkMeterProvider,
    /// The provider for programs in place of `metrics`.
    pub(super) meters: NotingMeterProvider,
    pub(super) logs: Option<SdkLoggerProvider>,
    pub(super) scrape: Scrape,
    pub(super) outlets: SenderSlots,
}

/// Builds everything, without making anything of it global.
///
/// # Errors
///
/// As [`install`](super::install).
pub(super) fn assemble(
    config: &Config,
    output: Output,
) -> Result<(Telemetry, Dispatch), TelemetryError> {
    config.check()?;
    let (log_filter, exchange) = filter::exchangeable(LogFilter::parse(&config.log_filter)?);

    let pipelines = Pipelines::build(config)?;
    let tracer = pipelines.traces.tracer(SCOPE);
    // The trace layer comes first: it has entered a span before a later layer hears of it.
    let traces = tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_target(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(filter::traces(
            pipelines.outlets.of(Signal::Traces).is_some(),
        ));
    // One layer for both outputs, since each layer costs every span, even if it gets none.
    let exported = pipelines.logs.as_ref().map(OpenTelemetryTracingBridge::new);
    let last_errors = LastErrors::default();
    let logs = LogLayer::new(config.log_format, output, last_errors.clone());
    let logs = logs.and_then(exported.map(Exported));
    let limiter = Limiter::new(config.log_limit);
    let logs = Limited(logs, limiter.clone()).with_filter(log_filter);
    let subscriber = Registry::default().with(traces).with(logs);

    let inner = Inner {
        otlp: config.otlp.clone(),
        pipelines,
        levels: Levels::new(&config.log_filter, exchange),
        limiter,
        last_errors,
    };
    Ok((Telemetry(Arc::new(inner)), Dispatch::new(subscriber)))
}

impl Pipelines {
    fn build(config: &Config) -> Result<Self, TelemetryError> {
        let resource = resource::of(config);
        let tallies = Signal::ALL.map(|signal| (signal, Arc::new(SignalCounters::default())));
        let outlets = SenderSlots::new(&config.otlp, &tallies);
        let spans = outlets.of(Signal::Traces);

        let mut traces = SdkTracerProvider::builder()
            .with_resource(resource.clone())
            .with_sampler(sampler(config, spans.is_some()));
        if let Some(outlet) = spans {
            let queue = SpanQueue::start(outlet.clone(), &resource, config.span_queue);
            traces = traces.with_span_processor(queue.map_err(TelemetryError::Runtime)?);
        }
        let logs = outlets.of(Signal::Logs).map(|outlet| {
            let queue = LogQueue::start(outlet.clone(), config.log_queue);
            SdkLoggerProvider::builder()
                .with_resource(resource.clone())
                .with_log_processor(queue)
                .build()
        });
        let (metrics, meters, scrape) =
            metrics::build(config, resource, outlets.of(Signal::Metrics))?;
        metrics::observe(&metrics, config, &tallies);
        Ok(Self {
            traces: traces.build(),
            metrics,
            meters,
            logs,
            scrape,
            outlets,
        })
    }
}

/// Follows the caller's decision if that is wanted, and decides for all other traces.
///
/// Where spans go nowhere, none that begins here is recorded: it has its ids, which the log lines
/// show, and costs no more. A caller's "sampled" is passed on even then; otherwise a later service would drop its part
/// of the trace.
fn sampler(config: &Config, exported: bool) -> Sampler {
    let own = if exported {
        Sampler::TraceIdRatioBased(config.sample_ratio)
    } else {
        Sampler::AlwaysOff
    };
    if exported && !config.sample_parent_based {
        return own;
    }
    Sampler::ParentBased(Box::new(own))
}
