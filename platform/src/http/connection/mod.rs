//! Connections below HTTP: what each of them waits for, and how long its client may let it wait.
//!
//! actix times the first head of a connection and the pause between requests, both by the clock on the
//! wall; it times neither a later head nor the writing of an answer. Here one rule ([`limits`]) covers
//! all phases, and time is counted by each worker in turns of its own loop ([`worker`]): while a worker
//! is blocked its clock does not advance, so no client is blamed for what the worker did not read.
//!
//! [`Connections`] is what all workers share: how many connections are open, how many handshakes each
//! address has under way, and how many connections were ended by which limit. [`ConnectionLimit`] changes how many
//! there may be while the server runs.

mod acceptor;
mod handshakes;
mod limits;
mod state;
mod stream;
mod worker;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use opentelemetry::{KeyValue, global};

use self::{
    handshakes::Handshakes,
    limits::{Limits, ServerLoad},
};
use super::Config;

pub(super) use self::{
    acceptor::Acceptor,
    state::{Exchanging, must_wait_its_turn, note_answered},
    stream::Connection,
};

/// At the least, the time between two log lines about connections at their limits.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// The limit that ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// The TLS handshake took too long.
    HandshakeTimeout,
    /// Its address has as many handshakes under way as it may.
    TooManyHandshakes,
    /// The head of a request took too long.
    HeaderTimeout,
    /// The client took nothing of an answer for too long.
    WriteTimeout,
    /// It waited for its client while hardly any connection was left for others.
    AtLimit,
}

impl Cut {
    const ALL: [Self; 5] = [
        Self::HandshakeTimeout,
        Self::TooManyHandshakes,
        Self::HeaderTimeout,
        Self::WriteTimeout,
        Self::AtLimit,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::HandshakeTimeout => "handshake_timeout",
            Self::TooManyHandshakes => "too_many_handshakes",
            Self::HeaderTimeout => "header_timeout",
            Self::WriteTimeout => "write_timeout",
            Self::AtLimit => "at_limit",
        }
    }
}

/// All connections of a server, over all workers.
pub(super) struct Connections {
    limits: Limits,
    /// How many may be open, at most as many as at the start.
    most: AtomicUsize,
    /// As many as the server accepts.
    accepted: usize,
    open: AtomicUsize,
    stopping: AtomicBool,
    handshakes: Handshakes,
    cuts: [AtomicU64; Cut::ALL.len()],
    reported: ArcSwap<Report>,
}

/// The last logged value, and its time.
struct Report {
    at: Instant,
    at_limit: u64,
    too_many_handshakes: u64,
}

impl Connections {
    pub(super) fn new(config: &Config) -> Arc<Self> {
        Arc::new(Self {
            limits: Limits::of(config),
            most: AtomicUsize::new(config.max_connections),
            accepted: config.max_connections,
            open: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            handshakes: Handshakes::new(config),
            cuts: Default::default(),
            reported: ArcSwap::from_pointee(Report {
                at: Instant::now(),
                at_limit: 0,
                too_many_handshakes: 0,
            }),
        })
    }

    /// Registers the figures that are read at each scrape.
    pub(super) fn observe(self: &Arc<Self>) {
        let meter = global::meter("dotmac.http");
        let connections = Arc::clone(self);
        meter
            .u64_observable_gauge("dotmac.http.connections")
            .with_description("Connections that are open")
            .with_callback(move |gauge| gauge.observe(connections.open() as u64, &[]))
            .build();
        let connections = Arc::clone(self);
        meter
            .u64_observable_gauge("dotmac.http.connections.max")
            .with_description("Connections that may be open at once")
            .with_callback(move |gauge| gauge.observe(connections.most() as u64, &[]))
            .build();
        let connections = Arc::clone(self);
        meter
            .u64_observable_counter("dotmac.http.connections.cut")
            .with_description("Connections closed by a limit, by limit")
            .with_callback(move |counter| {
                for cut in Cut::ALL {
                    let label = KeyValue::new("limit", cut.as_str());
                    counter.observe(connections.cuts(cut), &[label]);
                }
            })
            .build();
    }

    /// From now on connections without a request are closed, and clients must take their answers.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Relaxed);
    }

    fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    fn most(&self) -> usize {
        self.most.load(Relaxed)
    }

    /// Whether a connection that was accepted is one too many: the limit was lowered since the start. Without that the
    /// server accepts no more than the limit.
    fn is_beyond_limit(&self) -> bool {
        let most = self.most();
        most < self.accepted && self.open() > most
    }

    fn cuts(&self, cut: Cut) -> u64 {
        self.cuts[cut as usize].load(Relaxed)
    }

    fn count(&self, cut: Cut) {
        self.cuts[cut as usize].fetch_add(1, Relaxed);
    }

    fn situation(&self) -> ServerLoad {
        let most = self.most();
        ServerLoad {
            crowded: self.open() >= most - most / 8,
            stopping: self.stopping.load(Relaxed),
        }
    }

    /// Logs that clients were turned away, unless another worker has done so a moment ago.
    fn report(&self) {
        let last = self.reported.load();
        if last.at.elapsed() < REPORT_EVERY {
            return;
        }
        let now = Report {
            at: Instant::now(),
            at_limit: self.cuts(Cut::AtLimit),
            too_many_handshakes: self.cuts(Cut::TooManyHandshakes),
        };
        let (at_limit, too_many_handshakes) = (
            now.at_limit - last.at_limit,
            now.too_many_handshakes - last.too_many_handshakes,
        );
        let (open, most) = (self.open(), self.most());
        let is_news = at_limit > 0 || too_many_handshakes > 0 || open >= most;
        let before = self.reported.compare_and_swap(&last, Arc::new(now));
        if is_news && Arc::ptr_eq(&before, &last) {
            tracing::warn!(
                open,
                max = most,
                at_limit,
                too_many_handshakes,
                "HTTP connections are at their limit: idle clients were disconnected or new ones wait"
            );
        }
    }
}

/// How many connections a server has open at once. Clones are of the same server.
#[derive(Clone)]
pub struct ConnectionLimit(Arc<Connections>);

impl ConnectionLimit {
    pub(super) fn of(connections: &Arc<Connections>) -> Self {
        Self(Arc::clone(connections))
    }

    /// How many may be open.
    pub fn get(&self) -> usize {
        self.0.most()
    }

    /// Lets so many be open from now on, at least 1 and never more than at the start. If more are open, those that wait
    /// for their clients are closed within some 2 s and new ones at once; requests under way are not cut.
    pub fn set(&self, most: usize) {
        let most = most.clamp(1, self.0.accepted.max(1));
        self.0.most.store(most, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::testing::config;

    #[test]
    fn a_crowd_begins_when_an_eighth_of_the_connections_is_left() {
        let mut config = config();
        for (most, open, crowded) in [
            (100, 87, false),
            (100, 88, true),
            (1, 0, false),
            (1, 1, true),
        ] {
            config.max_connections = most;
            let connections = Connections::new(&config);
            connections.open.store(open, Relaxed);
            let situation = connections.situation();
            assert_eq!(situation.crowded, crowded, "{open} of {most}");
        }
    }

    #[test]
    fn a_lowered_limit_makes_a_crowd_and_refuses_what_is_beyond_it() {
        let connections = Connections::new(&Config {
            max_connections: 100,
            ..config()
        });
        let limit = ConnectionLimit::of(&connections);
        // Each worker may have one, even beyond the limit.
        connections.open.store(101, Relaxed);
        assert!(!connections.is_beyond_limit());
        connections.open.store(50, Relaxed);
        assert!(!connections.situation().crowded);
        limit.set(40);
        assert!(connections.situation().crowded && connections.is_beyond_limit());
        connections.open.store(40, Relaxed);
        assert!(!connections.is_beyond_limit());
        limit.set(1000);
        assert_eq!(limit.get(), 100);
        limit.set(0);
        assert_eq!(limit.get(), 1);
    }
}
