//! Something in the database that a module measures again and again, for its metrics and for `dotmac why`.

use std::sync::{Arc, PoisonError, RwLock};

use opentelemetry::{KeyValue, global};

/// A gauge by its name, unit and description, with its value for an item.
pub struct Gauge<I: 'static> {
    /// As `dotmac.jobs.ready`.
    pub name: &'static str,
    /// As `s`; empty for a number of things.
    pub unit: &'static str,
    /// The measured value.
    pub description: &'static str,
    /// Its value.
    pub value: fn(&I) -> i64,
}

/// The last measurement. Each instance measures for itself, since each of them may be asked; while the database is away
/// there is nothing, which is `T::default()`. Clones are the same.
pub struct Measured<T>(Arc<RwLock<T>>);

impl<T> Clone for Measured<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Clone + Default + Send + Sync + 'static> Measured<T> {
    pub(super) fn none() -> Self {
        Self(Arc::default())
    }

    pub(super) fn set(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = value;
    }

    /// The last measurement.
    #[must_use]
    pub fn get(&self) -> T {
        let value = self.0.read();
        value.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows it in gauges of the meter `meter`: `items` gives each item with its labels.
    pub fn observe<I: 'static>(
        &self,
        meter: &'static str,
        gauges: &'static [Gauge<I>],
        items: impl Fn(T) -> Vec<(I, Vec<KeyValue>)> + Clone + Send + Sync + 'static,
    ) {
        let meter = global::meter(meter);
        for gauge in gauges {
            let (measured, items) = (self.clone(), items.clone());
            meter
                .i64_observable_gauge(gauge.name)
                .with_unit(gauge.unit)
                .with_description(gauge.description)
                .with_callback(move |shown| {
                    for (item, labels) in items(measured.get()) {
                        shown.observe((gauge.value)(&item), &labels);
                    }
                })
                .build();
        }
    }
}
