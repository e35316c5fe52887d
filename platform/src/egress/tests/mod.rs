//! Calls to real listeners on this machine, to which a fake resolver sends them.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on should say where"
)]

mod addresses;
mod answers;
mod connections;
mod destinations;
mod places;
mod redirects;
mod settings;
mod telemetry;
mod tls;

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;

use super::{Config, Egress, Policy, lookup::Lookup};
use crate::settings::{EgressTarget, parsed};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Longer than anything should take on a loaded machine; reached only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(40);

type FakeAnswer = dyn Fn(&str, usize) -> Vec<IpAddr> + Send + Sync;

/// A resolver that answers what a test says: a name may have other addresses each time.
#[derive(Clone)]
struct FakeLookup {
    answer: Arc<FakeAnswer>,
    asked: Arc<AtomicUsize>,
}

impl FakeLookup {
    /// `answer` is given the name and how many questions there were before.
    fn new(answer: impl Fn(&str, usize) -> Vec<IpAddr> + Send + Sync + 'static) -> Self {
        Self {
            answer: Arc::new(answer),
            asked: Arc::default(),
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }
}

impl Lookup for FakeLookup {
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let before = self.asked.fetch_add(1, SeqCst);
        Box::pin(async move { Ok((self.answer)(name, before)) })
    }
}

/// As in production, with what `allow` opens.
fn production(allow: &[&str]) -> Config {
    Config {
        policy: Policy {
            allow: allow.iter().map(|it| parsed::<EgressTarget>(it)).collect(),
            ports: vec![443],
            allows_loopback: false,
            allows_plain_http: false,
        },
        timeout: PATIENCE,
        answer_limit: 64 << 10,
        per_host: 8,
        concurrency: 64,
        proxy: None,
        ca_cert: None,
    }
}

/// As on a developer's machine.
fn development() -> Config {
    let production = production(&[]);
    Config {
        policy: Policy {
            ports: vec![80, 443],
            allows_loopback: true,
            allows_plain_http: true,
            ..production.policy
        },
        ..production
    }
}

/// Every name is this machine.
fn everything_here() -> FakeLookup {
    FakeLookup::new(|_, _| vec![LOOPBACK])
}

fn egress(config: Config, lookup: &FakeLookup) -> Egress {
    Egress::with_lookup(config, lookup.clone())
}
