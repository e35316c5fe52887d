//! Figures of the tokio runtimes: how busy their threads are and how much waits for them.
//!
//! A runtime is watched from its own thread by [`watch_runtime`], for as long as that thread lives;
//! those of one name are added up, as the workers of the HTTP server are. What ended ones have worked
//! stays in the sum, which never falls.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use opentelemetry::{KeyValue, metrics::Meter};
use tokio::runtime::{Handle, RuntimeMetrics};

/// More runtimes than any machine has use for; beyond that they are not watched.
const LIMIT: usize = 1024;

static WATCHED: Mutex<Watched> = Mutex::new(Watched {
    next: 0,
    running: BTreeMap::new(),
    ended: BTreeMap::new(),
});

thread_local! {
    static HERE: RefCell<Option<Guard>> = const { RefCell::new(None) };
}

struct Watched {
    next: u64,
    running: BTreeMap<u64, (&'static str, RuntimeMetrics)>,
    /// Time that runtimes which have ended were busy.
    ended: BTreeMap<&'static str, Duration>,
}

/// Ends with its thread, and the watch with it.
struct Guard(u64);

impl Drop for Guard {
    fn drop(&mut self) {
        let mut watched = watched();
        if let Some((name, metrics)) = watched.running.remove(&self.0) {
            *watched.ended.entry(name).or_default() += busy(&metrics);
        }
    }
}

/// Shows the runtime that this is called on in `tokio_runtime_*`, under `name`, until the calling thread
/// ends. Outside of a runtime, and on a registered thread, it does nothing.
pub fn watch_runtime(name: &'static str) {
    let Ok(handle) = Handle::try_current() else {
        return;
    };
    HERE.with_borrow_mut(|here| {
        let mut watched = watched();
        if here.is_none() && watched.running.len() < LIMIT {
            watched.next += 1;
            let serial = watched.next;
            watched.running.insert(serial, (name, handle.metrics()));
            watched.ended.entry(name).or_default();
            *here = Some(Guard(serial));
        }
    });
}

/// The same for a runtime of several threads, called from outside of it.
pub fn watch_runtime_of(handle: &Handle, name: &'static str) {
    // Not joined: it is done as soon as it runs.
    drop(handle.spawn(async move { watch_runtime(name) }));
}

fn watched() -> MutexGuard<'static, Watched> {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn busy(runtime: &RuntimeMetrics) -> Duration {
    (0..runtime.num_workers())
        .map(|worker| runtime.worker_total_busy_duration(worker))
        .sum()
}

/// The sum of a figure over the runtimes of each name; 0 for a name that has none any more.
fn sums(figure: fn(&RuntimeMetrics) -> f64) -> BTreeMap<&'static str, f64> {
    watched().sums(figure)
}

/// Seconds that the runtimes of each name were busy, those that have ended included.
fn busy_seconds() -> BTreeMap<&'static str, f64> {
    // Under one lock: a runtime that ends meanwhile must count once.
    let watched = watched();
    let mut seconds = watched.sums(|runtime| busy(runtime).as_secs_f64());
    for (name, ended) in &watched.ended {
        *seconds.entry(*name).or_default() += ended.as_secs_f64();
    }
    seconds
}

impl Watched {
    fn sums(&self, figure: fn(&RuntimeMetrics) -> f64) -> BTreeMap<&'static str, f64> {
        let mut sums: BTreeMap<_, _> = self.ended.keys().map(|name| (*name, 0.0)).collect();
        for (name, metrics) in self.running.values() {
            *sums.entry(*name).or_default() += figure(metrics);
        }
        sums
    }
}

/// Registers the instruments on `meter`.
pub(crate) fn observe(meter: &Meter) {
    let gauge = |name, unit, description, figure: fn(&RuntimeMetrics) -> f64| {
        meter
            .f64_observable_gauge(name)
            .with_unit(unit)
            .with_description(description)
            .with_callback(move |observer| {
                for (name, value) in sums(figure) {
                    observer.observe(value, &[KeyValue::new("runtime", name)]);
                }
            })
            .build();
    };
    gauge(
        "tokio.runtime.workers",
        "{thread}",
        "Threads that run the tasks of a runtime.",
        |runtime| runtime.num_workers() as f64,
    );
    gauge(
        "tokio.runtime.tasks",
        "{task}",
        "Tasks of a runtime that have not ended.",
        |runtime| runtime.num_alive_tasks() as f64,
    );
    gauge(
        "tokio.runtime.queue_depth",
        "{task}",
        "Tasks in the global queue of a runtime, waiting for a thread.",
        |runtime| runtime.global_queue_depth() as f64,
    );
    meter
        .f64_observable_counter("tokio.runtime.busy")
        .with_unit("s")
        .with_description("Time that the threads of a runtime were busy.")
        .with_callback(|observer| {
            for (name, seconds) in busy_seconds() {
                observer.observe(seconds, &[KeyValue::new("runtime", name)]);
            }
        })
        .build();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_is_counted_once_and_what_it_has_worked_outlives_it()
    -> Result<(), Box<dyn std::error::Error>> {
        const NAME: &str = "of this test";
        let workers = || sums(|it| it.num_workers() as f64).get(NAME).copied();
        let thread = std::thread::spawn(move || -> std::io::Result<_> {
            let runtime = tokio::runtime::Builder::new_current_thread().build()?;
            runtime.block_on(async {
                watch_runtime(NAME);
                watch_runtime(NAME);
                // A yield, so that the runtime notes what it has worked.
                for _ in 0..1000 {
                    tokio::task::yield_now().await;
                }
            });
            Ok((workers(), busy_seconds().get(NAME).copied()))
        });
        let (running, before) = thread.join().map_err(|_| "the thread panicked")??;
        assert_eq!(running, Some(1.0));
        assert_eq!(workers(), Some(0.0));
        assert!(busy_seconds().get(NAME) >= before.as_ref());
        Ok(())
    }
}
