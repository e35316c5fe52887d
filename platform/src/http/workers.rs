//! Whether the workers make progress.
//!
//! A handler that blocks its thread stops every request of that worker, probes included, and nobody on that thread
//! can say so. Each worker notes the time once a second; one that has not for as long as makes an actor count as hung
//! (`DOTMAC_SUPERVISION_HANG_AFTER`) is blocked.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use dotmac_supervision::{NotReady, Readiness, Reason, State};
use opentelemetry::global;
use tokio::time::{MissedTickBehavior, interval};

/// A handler blocks the thread of a worker.
pub(crate) const WORKERS_BLOCKED: Reason = Reason::new("workers_blocked");

/// How often a worker notes the time.
const BEAT: Duration = Duration::from_secs(1);

/// The workers of one server. A clone is the same.
#[derive(Clone)]
pub struct Workers(Arc<Shared>);

struct Shared {
    began: Instant,
    pulses: Mutex<HashMap<ThreadId, Arc<Pulse>>>,
}

/// When a worker was last seen to make progress, in milliseconds since `began`.
struct Pulse {
    number: usize,
    at: AtomicU64,
}

/// How many workers are blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocked {
    None,
    Some,
    All,
}

impl Blocked {
    /// What readiness becomes by it.
    pub(crate) fn readiness(self, components: Readiness) -> Readiness {
        match (components, self) {
            (Readiness::Ready | Readiness::Degraded, Self::All) => {
                Readiness::NotReady(NotReady::ComponentDown)
            }
            (Readiness::Ready, Self::Some) => Readiness::Degraded,
            (readiness, _) => readiness,
        }
    }

    /// The state of the HTTP server, which is shown among the components while workers are blocked.
    pub(crate) const fn state(self) -> Option<State> {
        match self {
            Self::None => None,
            Self::Some => Some(State::Degraded),
            Self::All => Some(State::Unavailable),
        }
    }
}

/// A worker that makes no progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockedWorker {
    /// Which one, counted from 1.
    pub number: usize,
    /// For how long.
    pub since: Duration,
}

impl Default for Workers {
    fn default() -> Self {
        Self(Arc::new(Shared {
            began: Instant::now(),
            pulses: Mutex::default(),
        }))
    }
}

impl Workers {
    /// Watches the worker on whose thread this is called, until that ends. Several calls on one thread are one.
    pub(super) fn watch_this(&self) {
        let thread = thread::current().id();
        let pulse = {
            let mut pulses = self.pulses();
            if pulses.contains_key(&thread) {
                return;
            }
            let taken = |number| pulses.values().any(|pulse| pulse.number == number);
            let number = (1..).find(|number| !taken(*number)).unwrap_or_default();
            let pulse = Arc::new(Pulse {
                number,
                at: AtomicU64::new(self.now()),
            });
            pulses.insert(thread, Arc::clone(&pulse));
            pulse
        };
        let watched = Watched {
            workers: self.clone(),
            thread,
        };
        actix_rt::spawn(async move {
            let mut beats = interval(BEAT);
            beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                beats.tick().await;
                pulse.at.store(watched.workers.now(), Relaxed);
            }
        });
    }

    /// The workers that have made no progress for `patience`, by their numbers.
    pub fn blocked(&self, patience: Duration) -> Vec<BlockedWorker> {
        let mut blocked: Vec<_> = self
            .pauses()
            .filter(|worker| worker.since >= patience.max(BEAT * 2))
            .collect();
        blocked.sort_by_key(|worker| worker.number);
        blocked
    }

    /// How many workers there are.
    pub fn count(&self) -> usize {
        self.pulses().len()
    }

    /// Whether some or all workers have made no progress for `patience`.
    pub(crate) fn are_blocked(&self, patience: Duration) -> Blocked {
        match self.blocked(patience).len() {
            0 => Blocked::None,
            blocked if blocked < self.count() => Blocked::Some,
            _ => Blocked::All,
        }
    }

    /// Registers the figures that are read at each scrape.
    pub(super) fn observe(&self, patience: Duration) {
        let meter = global::meter("dotmac.http");
        let workers = self.clone();
        meter
            .u64_observable_gauge("dotmac.http.workers.blocked")
            .with_description(
                "Workers whose thread has made no progress for DOTMAC_SUPERVISION_HANG_AFTER",
            )
            .with_callback(move |gauge| gauge.observe(workers.blocked(patience).len() as u64, &[]))
            .build();
    }

    /// Logs each worker that becomes blocked, and how long it was. Never returns.
    pub(super) async fn report(self, patience: Duration) {
        let mut known: HashMap<usize, Duration> = HashMap::new();
        let mut turns = interval(BEAT);
        loop {
            turns.tick().await;
            let blocked = self.blocked(patience);
            for BlockedWorker { number, since } in &blocked {
                if known.insert(*number, *since).is_none() {
                    tracing::warn!(
                        worker = number,
                        blocked = blocked.len(),
                        workers = self.count(),
                        "HTTP worker {number} has made no progress for {since:.0?}: a handler blocks its thread; \
                         move that work to `web::block`"
                    );
                }
            }
            known.retain(|number, since| {
                let is_blocked = blocked.iter().any(|worker| worker.number == *number);
                if !is_blocked {
                    tracing::info!(
                        worker = number,
                        "HTTP worker {number} makes progress again after {since:.0?}"
                    );
                }
                is_blocked
            });
        }
    }

    fn pauses(&self) -> impl Iterator<Item = BlockedWorker> {
        let now = self.now();
        let pauses: Vec<_> = self
            .pulses()
            .values()
            .map(|pulse| BlockedWorker {
                number: pulse.number,
                since: Duration::from_millis(now.saturating_sub(pulse.at.load(Relaxed))),
            })
            .collect();
        pauses.into_iter()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn pulses(&self) -> MutexGuard<'_, HashMap<ThreadId, Arc<Pulse>>> {
        self.0.pulses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends with the worker's thread.
struct Watched {
    workers: Workers,
    thread: ThreadId,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.workers.pulses().remove(&self.thread);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_blocked_when_its_thread_makes_no_progress()
    -> Result<(), Box<dyn std::error::Error>> {
        let workers = Workers::default();
        let patience = Duration::from_secs(2);
        assert_eq!(workers.are_blocked(patience), Blocked::None);
        let (released, blocked) = std::sync::mpsc::channel::<()>();
        let (watching, watched) = std::sync::mpsc::channel();
        let here = workers.clone();
        let thread = thread::spawn(move || {
            actix_rt::System::new().block_on(async move {
                here.watch_this();
                here.watch_this();
                tokio::task::yield_now().await;
                watching.send(()).ok();
                blocked.recv().ok();
                tokio::time::sleep(BEAT * 2).await;
                here.are_blocked(patience)
            })
        });
        watched.recv()?;
        assert_eq!(workers.count(), 1);
        let deadline = Instant::now() + Duration::from_secs(20);
        while workers.are_blocked(patience) != Blocked::All {
            assert!(Instant::now() < deadline, "never blocked");
            thread::park_timeout(Duration::from_millis(50));
        }
        assert_eq!(workers.blocked(patience)[0].number, 1);
        released.send(())?;
        let after = thread.join().map_err(|_| "the worker panicked")?;
        assert_eq!(after, Blocked::None);
        assert_eq!(workers.count(), 0);
        Ok(())
    }
}
