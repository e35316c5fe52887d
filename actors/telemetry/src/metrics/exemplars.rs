//! Examples for the buckets of every histogram of durations: which trace a slow request was.
//!
//! The SDK keeps none, so the meter provider that programs get is a thin one in front of the SDK's:
//! a histogram in seconds also notes the current sampled trace when it records. It never waits: of two simultaneous
//! records one is not noted.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use opentelemetry::{
    Context, InstrumentationScope, KeyValue,
    metrics::{
        AsyncInstrumentBuilder, Counter, Gauge, Histogram, HistogramBuilder, InstrumentBuilder,
        InstrumentProvider, Meter, MeterProvider, ObservableCounter, ObservableGauge,
        ObservableUpDownCounter, SyncInstrument, UpDownCounter,
    },
    trace::{SpanId, TraceContextExt as _, TraceId},
};
use opentelemetry_sdk::metrics::SdkMeterProvider;

use crate::instruments;

/// Most series of one histogram that have exemplars. Labels come from closed sets; this bounds what a
/// mistake there would cost.
const SERIES: usize = 1000;

/// How long an exemplar stays before a newer one takes its place: a scrape wants a recent one, not the
/// last.
const FRESH: Duration = Duration::from_secs(1);

/// How often one bucket of any series may get a new exemplar. Above a thousand values a
/// second this leaves most of them out, where finding their series again would cost more than it shows.
const PACE: Duration = Duration::from_millis(1);

/// One measured value and the trace in which it was measured.
#[derive(Clone, Debug)]
pub(crate) struct Exemplar {
    pub(crate) trace: TraceId,
    pub(crate) span: SpanId,
    pub(crate) value: f64,
    pub(crate) at: SystemTime,
    noted: Instant,
}

/// The exemplars of all histograms. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exemplars(Arc<RwLock<BTreeMap<String, Arc<Reservoir>>>>);

/// The exemplars of one histogram.
#[derive(Debug)]
struct Reservoir {
    bounds: &'static [f64],
    series: Mutex<HashMap<Vec<KeyValue>, Buckets>>,
    /// Counts time from here.
    epoch: Instant,
    /// For each bucket, when it may be checked again, in microseconds after `epoch`.
    next_look: Vec<AtomicU64>,
}

/// One place for each bucket, the one without a bound last.
type Buckets = Vec<Option<Exemplar>>;

impl Exemplars {
    /// The exemplars of the family `name`, as Prometheus spells it, by the labels of their series as
    /// [`signature`] has them.
    pub(crate) fn of(&self, name: &str) -> HashMap<String, Buckets> {
        let families = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(reservoir) = families.get(name) else {
            return HashMap::new();
        };
        let series = reservoir
            .series
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        series
            .iter()
            .map(|(attributes, buckets)| {
                let labels = attributes
                    .iter()
                    .map(|label| (spelt(label.key.as_str()), label.value.to_string()));
                (signature(labels), buckets.clone())
            })
            .collect()
    }

    fn reservoir(&self, name: &str) -> Arc<Reservoir> {
        let mut families = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let reservoir = families
            .entry(format!("{}_seconds", spelt(name)))
            .or_insert_with(|| Arc::new(Reservoir::new(instruments::second_bounds(name))));
        Arc::clone(reservoir)
    }
}

/// Labels in an order of their own, to compare two sets of them.
pub(crate) fn signature(labels: impl Iterator<Item = (String, String)>) -> String {
    let mut labels: Vec<_> = labels.collect();
    labels.sort_unstable();
    let labels = labels
        .iter()
        .flat_map(|(name, value)| [name, "\0", value, "\0"]);
    labels.collect()
}

/// A name as Prometheus spells it.
fn spelt(name: &str) -> String {
    name.replace(['.', '-', '/'], "_")
}

impl Reservoir {
    fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            series: Mutex::default(),
            epoch: Instant::now(),
            next_look: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Whether it is time to look at the bucket again. Two threads may both get that answer; this is harmless.
    fn is_due(&self, bucket: usize) -> bool {
        let Some(next) = self.next_look.get(bucket) else {
            return false;
        };
        let now = self.epoch.elapsed().as_micros() as u64;
        let is_due = next.load(Relaxed) <= now;
        if is_due {
            next.store(now + PACE.as_micros() as u64, Relaxed);
        }
        is_due
    }

    fn note(&self, value: f64, attributes: &[KeyValue]) {
        let index = self.bounds.partition_point(|bound| *bound < value);
        let current = Context::map_current(|context| {
            let span = context.span();
            let span = span.span_context();
            span.is_sampled().then(|| (span.trace_id(), span.span_id()))
        });
        let current = current.filter(|_| self.is_due(index));
        let (Some((trace, span)), Ok(mut series)) = (current, self.series.try_lock()) else {
            return;
        };
        if !series.contains_key(attributes) && series.len() < SERIES {
            series.insert(attributes.to_vec(), vec![None; self.bounds.len() + 1]);
        }
        let is_fresh = |known: &Exemplar| known.noted.elapsed() < FRESH;
        let buckets = series.get_mut(attributes);
        if let Some(place) = buckets.and_then(|buckets| buckets.get_mut(index))
            && !place.as_ref().is_some_and(is_fresh)
        {
            *place = Some(Exemplar {
                trace,
                span,
                value,
                at: SystemTime::now(),
                noted: Instant::now(),
            });
        }
    }
}

/// A histogram that notes exemplars.
struct Noting {
    histogram: Histogram<f64>,
    reservoir: Arc<Reservoir>,
}

impl SyncInstrument<f64> for Noting {
    fn measure(&self, value: f64, attributes: &[KeyValue]) {
        self.histogram.record(value, attributes);
        self.reservoir.note(value, attributes);
    }
}

/// The meter provider that programs get: the SDK's, with exemplars.
#[derive(Clone)]
pub(crate) struct NotingMeterProvider {
    provider: SdkMeterProvider,
    exemplars: Exemplars,
}

impl NotingMeterProvider {
    pub(crate) fn new(provider: SdkMeterProvider, exemplars: Exemplars) -> Self {
        Self {
            provider,
            exemplars,
        }
    }
}

impl MeterProvider for NotingMeterProvider {
    fn meter_with_scope(&self, scope: InstrumentationScope) -> Meter {
        Meter::new(Arc::new(NotingInstruments {
            meter: self.provider.meter_with_scope(scope),
            exemplars: self.exemplars.clone(),
        }))
    }
}

impl fmt::Debug for NotingMeterProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotingMeterProvider")
            .finish_non_exhaustive()
    }
}

struct NotingInstruments {
    meter: Meter,
    exemplars: Exemplars,
}

/// Says to the SDK's builder what was said to ours.
macro_rules! retold {
    ($given:ident, $builder:expr $(, $more:ident)*) => {{
        let mut builder = $builder;
        builder.description = $given.description;
        builder.unit = $given.unit;
        $(builder.$more = $given.$more;)*
        builder.build()
    }};
}

macro_rules! passed_on {
    ($($name:ident: $instrument:ty;)+) => {$(
        fn $name(&self, given: InstrumentBuilder<'_, $instrument>) -> $instrument {
            retold!(given, self.meter.$name(given.name))
        }
    )+};
}

macro_rules! observed {
    ($($name:ident: $instrument:ty, $value:ty;)+) => {$(
        fn $name(&self, given: AsyncInstrumentBuilder<'_, $instrument, $value>) -> $instrument {
            retold!(given, self.meter.$name(given.name), callbacks)
        }
    )+};
}

impl InstrumentProvider for NotingInstruments {
    fn f64_histogram(&self, given: HistogramBuilder<'_, Histogram<f64>>) -> Histogram<f64> {
        let (name, in_seconds) = (given.name.clone(), given.unit.as_deref() == Some("s"));
        let histogram = retold!(given, self.meter.f64_histogram(given.name), boundaries);
        if !in_seconds {
            return histogram;
        }
        let reservoir = self.exemplars.reservoir(&name);
        Histogram::new(Arc::new(Noting {
            histogram,
            reservoir,
        }))
    }

    fn u64_histogram(&self, given: HistogramBuilder<'_, Histogram<u64>>) -> Histogram<u64> {
        retold!(given, self.meter.u64_histogram(given.name), boundaries)
    }

    passed_on! {
        u64_counter: Counter<u64>;
        f64_counter: Counter<f64>;
        i64_up_down_counter: UpDownCounter<i64>;
        f64_up_down_counter: UpDownCounter<f64>;
        u64_gauge: Gauge<u64>;
        i64_gauge: Gauge<i64>;
        f64_gauge: Gauge<f64>;
    }

    observed! {
        u64_observable_counter: ObservableCounter<u64>, u64;
        f64_observable_counter: ObservableCounter<f64>, f64;
        i64_observable_up_down_counter: ObservableUpDownCounter<i64>, i64;
        f64_observable_up_down_counter: ObservableUpDownCounter<f64>, f64;
        u64_observable_gauge: ObservableGauge<u64>, u64;
        i64_observable_gauge: ObservableGauge<i64>, i64;
        f64_observable_gauge: ObservableGauge<f64>, f64;
    }
}
