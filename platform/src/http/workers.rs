//! Whether the workers make progress.
//!
//! A handler that blocks its thread stops every request of that worker, probes included, and that thread cannot report
//! it. Each worker notes the time once a second; one that has not for as long as makes an actor count as hung
//! (`DOTMAC_SUPERVISION_HANG_AFTER`) is blocked.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
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
    blocked_after: Duration,
    /// Swapped as a whole when a worker begins or ends, so that probes read it without a lock.
    pulses: ArcSwap<Vec<Arc<Pulse>>>,
}

/// The progress of one worker.
struct Pulse {
    number: usize,
    thread: ThreadId,
    /// When it was last seen, in milliseconds since `began`.
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
    /// The resulting readiness.
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

impl Workers {
    /// Of these workers, those that make no progress for `blocked_after` count as blocked; for 2 s at the least.
    pub fn new(blocked_after: Duration) -> Self {
        Self(Arc::new(Shared {
            began: Instant::now(),
            blocked_after: blocked_after.max(BEAT * 2),
            pulses: ArcSwap::default(),
        }))
    }

    /// Watches the worker on whose thread this is called, until that ends. Several calls on one thread are one.
    pub(super) fn watch_this(&self) {
        let thread = thread::current().id();
        if self.0.pulses.load().iter().any(|it| it.thread == thread) {
            return;
        }
        let at = self.now();
        self.0.pulses.rcu(|pulses| {
            let taken = |number| pulses.iter().any(|pulse| pulse.number == number);
            let pulse = Pulse {
                number: (1..).find(|number| !taken(*number)).unwrap_or_default(),
                thread,
                at: AtomicU64::new(at),
            };
            let mut pulses = Vec::clone(pulses);
            pulses.push(Arc::new(pulse));
            pulses
        });
        let watched = Watched {
            workers: self.clone(),
            thread,
        };
        actix_rt::spawn(async move {
            let mut beats = interval(BEAT);
            beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                beats.tick().await;
                watched.beat();
            }
        });
    }

    /// The workers that make no progress, by their numbers.
    pub fn blocked(&self) -> Vec<BlockedWorker> {
        let pulses = self.0.pulses.load();
        let mut blocked: Vec<_> = pulses
            .iter()
            .map(|pulse| BlockedWorker {
                number: pulse.number,
                since: self.pause(pulse),
            })
            .filter(|worker| worker.since >= self.0.blocked_after)
            .collect();
        blocked.sort_by_key(|worker| worker.number);
        blocked
    }

    /// How many workers there are.
    pub fn count(&self) -> usize {
        self.0.pulses.load().len()
    }

    /// Whether some or all workers make no progress. Takes no lock.
    pub(crate) fn are_blocked(&self) -> Blocked {
        let pulses = self.0.pulses.load();
        let is_blocked = |pulse: &&Arc<Pulse>| self.pause(pulse) >= self.0.blocked_after;
        match pulses.iter().filter(is_blocked).count() {
            0 => Blocked::None,
            blocked if blocked < pulses.len() => Blocked::Some,
            _ => Blocked::All,
        }
    }

    /// Registers the figures that are read at each scrape.
    pub(super) fn observe(&self) {
        let meter = global::meter("dotmac.http");
        let workers = self.clone();
        meter
            .u64_observable_gauge("dotmac.http.workers.blocked")
            .with_description(
                "Workers whose thread has made no progress for DOTMAC_SUPERVISION_HANG_AFTER",
            )
            .with_callback(move |gauge| gauge.observe(workers.blocked().len() as u64, &[]))
            .build();
    }

    /// Logs each worker that becomes blocked, and how long it was. Never returns.
    pub(super) async fn report(self) {
        let mut known: HashMap<usize, Duration> = HashMap::new();
        let mut turns = interval(BEAT);
        loop {
            turns.tick().await;
            let blocked = self.blocked();
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

    /// How long a worker has made no progress.
    fn pause(&self, pulse: &Pulse) -> Duration {
        Duration::from_millis(self.now().saturating_sub(pulse.at.load(Relaxed)))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Ends with the worker's thread.
struct Watched {
    workers: Workers,
    thread: ThreadId,
}

impl Watched {
    fn beat(&self) {
        let now = self.workers.now();
        let pulses = self.workers.0.pulses.load();
        if let Some(pulse) = pulses.iter().find(|pulse| pulse.thread == self.thread) {
            pulse.at.store(now, Relaxed);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.workers.0.pulses.rcu(|pulses| {
            let mut left = Vec::clone(pulses);
            left.retain(|pulse| pulse.thread != self.thread);
            left
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_blocked_when_its_thread_makes_no_progress()
    -> Result<(), Box<dyn std::error::Error>> {
        let workers = Workers::new(Duration::from_secs(2));
        assert_eq!(workers.are_blocked(), Blocked::None);
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
                here.are_blocked()
            })
        });
        watched.recv()?;
        assert_eq!(workers.count(), 1);
        let deadline = Instant::now() + Duration::from_secs(20);
        while workers.are_blocked() != Blocked::All {
            assert!(Instant::now() < deadline, "never blocked");
            thread::park_timeout(Duration::from_millis(50));
        }
        assert_eq!(workers.blocked()[0].number, 1);
        released.send(())?;
        let after = thread.join().map_err(|_| "the worker panicked")?;
        assert_eq!(after, Blocked::None);
        assert_eq!(workers.count(), 0);
        Ok(())
    }
}
