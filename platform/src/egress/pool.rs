//! Connections that are used again: each goes to an address that was judged just now.
//!
//! A call resolves the name and judges all its addresses, as ever. Only then it asks for a client, by the route that was
//! judged: host, port, scheme and exactly these addresses. A client knows no others, so a connection that it has open goes to
//! one of them. A name that means something else a moment later has another route, and finds no connection of the former one.
//!
//! A connection belongs to the runtime that opened it, and so does a route: none depends on the runtime of another call. It is
//! kept for [`IDLE`], less than common servers keep theirs, so that it is seldom closed just when it is used.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use reqwest::Client;
use tokio::runtime;

use super::policy::Destination;

/// How long a connection is kept that no call uses. Node.js closes its own after five seconds.
pub(super) const IDLE: Duration = Duration::from_secs(4);

/// The checked destination, and the runtime of the call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Route {
    runtime: runtime::Id,
    host: String,
    port: u16,
    is_encrypted: bool,
    /// In their order, as a resolver may turn them.
    addresses: Vec<IpAddr>,
}

impl Route {
    /// The way to `destination` by the addresses that were judged, from the runtime of the caller; `None` outside of one.
    pub(super) fn of(destination: &Destination, judged: &[IpAddr]) -> Option<Self> {
        let mut addresses = judged.to_vec();
        addresses.sort_unstable();
        addresses.dedup();
        Some(Self {
            runtime: runtime::Handle::try_current().ok()?.id(),
            host: destination.host.clone(),
            port: destination.port,
            is_encrypted: destination.is_encrypted,
            addresses,
        })
    }
}

/// The clients whose connections are kept.
pub(super) struct Pool {
    /// Connections that each of them keeps without a call.
    each: usize,
    /// How many there are at the most.
    most: usize,
    clients: Mutex<HashMap<Route, Kept>>,
}

struct Kept {
    client: Client,
    used: Instant,
}

impl Pool {
    /// Of at most twice as many idle connections as calls may be under way.
    pub(super) fn new(per_host: usize, concurrency: usize) -> Self {
        let each = per_host.min(concurrency).max(1);
        Self {
            each,
            most: (concurrency.saturating_mul(2) / each).max(1),
            clients: Mutex::default(),
        }
    }

    /// Connections that a client keeps at the most.
    pub(super) const fn each(&self) -> usize {
        self.each
    }

    /// Connections that all of them keep at the most.
    pub(super) const fn most_idle(&self) -> usize {
        self.each.saturating_mul(self.most)
    }

    /// The client of that route, if there is one whose connections may be open.
    pub(super) fn get(&self, route: &Route) -> Option<Client> {
        let mut clients = self.clients();
        let kept = clients.get_mut(route)?;
        kept.used = Instant::now();
        Some(kept.client.clone())
    }

    /// Keeps `client` for other calls by that route; the one to use, which is another call's if that was first.
    pub(super) fn put(&self, route: Route, client: Client) -> Client {
        let (mut clients, now) = (self.clients(), Instant::now());
        if let Some(kept) = clients.get_mut(&route) {
            kept.used = now;
            return kept.client.clone();
        }
        clients.retain(|_, kept| now.duration_since(kept.used) < IDLE * 2);
        if clients.len() >= self.most {
            let oldest = clients.iter().min_by_key(|(_, kept)| kept.used);
            if let Some(oldest) = oldest.map(|(route, _)| route.clone()) {
                clients.remove(&oldest);
            }
        }
        let kept = Kept {
            client: client.clone(),
            used: now,
        };
        clients.insert(route, kept);
        client
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<Route, Kept>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many clients there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.clients().len()
    }
}
