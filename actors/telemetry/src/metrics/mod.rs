//! The one set of instruments and its two readers: Prometheus text on demand, OTLP on a timer.

mod exemplars;
mod openmetrics;
mod process;
mod runtimes;

pub(crate) use exemplars::NotingMeterProvider;
pub use runtimes::{watch_runtime, watch_runtime_of};

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use opentelemetry::{
    KeyValue,
    metrics::{Meter, MeterProvider as _},
};
use opentelemetry_prometheus::PrometheusExporter;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    metrics::{
        Aggregation, Instrument, InstrumentKind, PeriodicReader, Pipeline, SdkMeterProvider,
        Stream, Temporality, data::ResourceMetrics, reader::MetricReader,
    },
};
use prometheus::{Registry, TextEncoder};

use super::{
    config::Config,
    error::TelemetryError,
    instruments,
    otlp::SenderSlot,
    tally::{DropReason, Signal, SignalCounters},
};
use exemplars::Exemplars;

/// Name of the meter, the "scope" in OTLP.
pub(super) const SCOPE: &str = "dotmac";

/// Gauges whose names end as the parts of a histogram do. The conventions give them these names, and
/// tools object to such a name on a gauge but not on what has no type: so they are shown without one.
pub(super) const UNTYPED: [&str; 1] = ["db_client_connection_count"];

/// The two text formats that Prometheus scrapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFormat {
    /// The Prometheus text format 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0, with exemplars.
    OpenMetrics,
}

impl TextFormat {
    /// The media type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Renders all metrics as text. Clones are cheap.
#[derive(Clone, Debug)]
pub struct Scrape {
    registry: Registry,
    exemplars: Exemplars,
}

impl Scrape {
    /// The present value of every instrument.
    ///
    /// Runs the callbacks of observable instruments on the calling thread, so those must be quick;
    /// asks no actor and no other machine.
    ///
    /// # Errors
    ///
    /// [`TelemetryError::Scrape`] if a metric cannot be written as text, such as one without a
    /// name.
    pub fn render(&self, format: TextFormat) -> Result<String, TelemetryError> {
        let families = self.registry.gather();
        match format {
            TextFormat::Prometheus => TextEncoder::new()
                .encode_to_string(&families)
                .map(without_types)
                .map_err(TelemetryError::Scrape),
            TextFormat::OpenMetrics => openmetrics::encode(&families, &self.exemplars)
                .map_err(|error| TelemetryError::Scrape(prometheus::Error::Msg(error.to_string()))),
        }
    }

    /// For collectors that are no OpenTelemetry instruments.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}

/// The Prometheus text `rendered`, in which [`UNTYPED`] families have no type.
fn without_types(rendered: String) -> String {
    UNTYPED.iter().fold(rendered, |text, name| {
        text.replace(
            &format!("# TYPE {name} gauge\n"),
            &format!("# TYPE {name} untyped\n"),
        )
    })
}

/// Builds the provider; the OTLP reader starts its thread at once.
///
/// # Errors
///
/// [`TelemetryError::Registry`].
pub(super) fn build(
    config: &Config,
    resource: Resource,
    outlet: Option<&SenderSlot>,
) -> Result<(SdkMeterProvider, NotingMeterProvider, Scrape), TelemetryError> {
    let registry = Registry::new();
    let prometheus = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        .scope_info_enabled(false)
        .without_target_info()
        .build()
        .map_err(|error| TelemetryError::Registry(error.to_string()))?;
    let otlp = outlet.map(|outlet| {
        PeriodicReader::builder(outlet.clone())
            .with_interval(config.metric_interval)
            .build()
    });
    let provider = SdkMeterProvider::builder()
        .with_resource(resource)
        .with_reader(Readers { prometheus, otlp })
        .with_view(in_seconds)
        .with_view(of_state)
        .build();
    let exemplars = Exemplars::default();
    let noting = NotingMeterProvider::new(provider.clone(), exemplars.clone());
    let scrape = Scrape {
        registry,
        exemplars,
    };
    Ok((provider, noting, scrape))
}

/// Both readers of one pipeline. To the SDK they are one, so that each measurement is aggregated once;
/// two readers of its own would have it done twice. Both are cumulative, so neither takes anything from
/// the other by reading.
#[derive(Debug)]
struct Readers {
    prometheus: PrometheusExporter,
    otlp: Option<PeriodicReader<SenderSlot>>,
}

impl MetricReader for Readers {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        if let Some(otlp) = &self.otlp {
            otlp.register_pipeline(Weak::clone(&pipeline));
        }
        self.prometheus.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.prometheus.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.otlp.as_ref().map_or(Ok(()), MetricReader::force_flush)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        let pushed = self
            .otlp
            .as_ref()
            .map_or(Ok(()), |otlp| otlp.shutdown_with_timeout(timeout));
        self.prometheus.shutdown_with_timeout(timeout).and(pushed)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.prometheus.temporality(kind)
    }
}

/// Gives every histogram of durations bounds that fit seconds; the SDK's own fit milliseconds.
fn in_seconds(instrument: &Instrument) -> Option<Stream> {
    let durations = instrument.kind() == InstrumentKind::Histogram && instrument.unit() == "s";
    let boundaries = durations.then(|| instruments::second_bounds(instrument.name()).to_vec())?;
    let aggregation = Aggregation::ExplicitBucketHistogram {
        boundaries,
        record_min_max: false,
    };
    Stream::builder().with_aggregation(aggregation).build().ok()
}

/// Series of a measure of state at the most. The SDK reserves memory for as many as an instrument may have, which is 2000
/// without this, 131 KiB for each of some eighty instruments; 400 take 16 KiB.
const LARGEST_STATE: usize = 400;

/// Bounds the series of what measures a state: those of components, pools, queues, not of requests.
fn of_state(instrument: &Instrument) -> Option<Stream> {
    let is_state = matches!(
        instrument.kind(),
        InstrumentKind::Gauge
            | InstrumentKind::UpDownCounter
            | InstrumentKind::ObservableGauge
            | InstrumentKind::ObservableUpDownCounter
            | InstrumentKind::ObservableCounter
    );
    let bounded = is_state.then(|| Stream::builder().with_cardinality_limit(LARGEST_STATE))?;
    bounded.build().ok()
}

/// Registers what telemetry says about the process, the build and itself.
pub(super) fn observe(
    provider: &SdkMeterProvider,
    config: &Config,
    tallies: &[(Signal, Arc<SignalCounters>)],
) {
    let meter = provider.meter(SCOPE);
    process::observe(&meter);
    runtimes::observe(&meter);
    observe_build(&meter, config);
    observe_export(&meter, tallies);
}

fn observe_build(meter: &Meter, config: &Config) {
    let labels: Vec<KeyValue> =
        std::iter::once(KeyValue::new("version", config.service_version.clone()))
            .chain(
                config
                    .build_info
                    .iter()
                    .map(|(name, value)| KeyValue::new(name.clone(), value.clone())),
            )
            .collect();
    meter
        .u64_observable_gauge(instruments::BUILD_INFO)
        .with_description("Always 1; the labels identify the build.")
        .with_callback(move |observer| observer.observe(1, &labels))
        .build();
}

fn observe_export(meter: &Meter, tallies: &[(Signal, Arc<SignalCounters>)]) {
    let signals = || -> Vec<(KeyValue, Arc<SignalCounters>)> {
        let label = |signal: Signal| KeyValue::new("signal", signal.as_str());
        tallies
            .iter()
            .map(|(signal, tally)| (label(*signal), Arc::clone(tally)))
            .collect()
    };
    let of_each = signals();
    meter
        .u64_observable_counter(instruments::TELEMETRY_EXPORTED)
        .with_description("Spans, metric points and log records that the collector accepted.")
        .with_callback(move |observer| {
            for (signal, tally) in &of_each {
                observer.observe(tally.exported_total(), std::slice::from_ref(signal));
            }
        })
        .build();
    let of_each = signals();
    meter
        .u64_observable_counter(instruments::TELEMETRY_DROPPED)
        .with_description("Spans, metric points and log records that did not reach the collector.")
        .with_callback(move |observer| {
            for (signal, tally) in &of_each {
                for reason in DropReason::ALL {
                    let labels = [signal.clone(), KeyValue::new("reason", reason.as_str())];
                    observer.observe(tally.dropped_total(reason), &labels);
                }
            }
        })
        .build();
    let of_each = signals();
    meter
        .u64_observable_gauge(instruments::TELEMETRY_QUEUED)
        .with_description("Spans and log records that wait for export.")
        .with_callback(move |observer| {
            for (signal, tally) in &of_each {
                observer.observe(tally.queued(), std::slice::from_ref(signal));
            }
        })
        .build();
    let of_each = signals();
    meter
        .u64_observable_gauge(instruments::TELEMETRY_LAST_SUCCESS)
        .with_unit("s")
        .with_description("Time of the last successful export, in seconds since 1970; 0 for never.")
        .with_callback(move |observer| {
            for (signal, tally) in &of_each {
                observer.observe(tally.last_success(), std::slice::from_ref(signal));
            }
        })
        .build();
}
