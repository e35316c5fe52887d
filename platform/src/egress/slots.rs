//! How many calls are under way: to one host and port, and to all.
//!
//! A slow host delays only calls to itself: calls that wait for it take no place of the others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{EgressError, policy::Destination};

/// How many times as many calls may wait as are under way.
const QUEUE: usize = 8;

/// The places for calls. It knows only hosts that are being called.
pub(super) struct Slots {
    per_host: usize,
    all: Arc<Semaphore>,
    most_users: usize,
    hosts: Mutex<HashMap<Endpoint, Host>>,
}

/// A host and a port of it: what listens on one port need not be slow because another is.
type Endpoint = (String, u16);

/// A host that is being called.
struct Host {
    places: Arc<Semaphore>,
    /// Calls that are under way or wait.
    users: usize,
}

/// A place for one call, given back when it is dropped.
pub(super) struct Slot {
    _registered: Registered,
    _of_host: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

/// One that counts among the users of a host.
struct Registered {
    slots: Arc<Slots>,
    endpoint: Endpoint,
}

impl Slots {
    /// `per_host` places for each host, `all` together.
    pub(super) fn new(per_host: usize, all: usize) -> Arc<Self> {
        Arc::new(Self {
            per_host,
            all: Arc::new(Semaphore::new(all)),
            most_users: all.saturating_mul(QUEUE + 1),
            hosts: Mutex::default(),
        })
    }

    /// Waits for a place to call the host and port of `destination`.
    ///
    /// # Errors
    ///
    /// [`EgressError::Busy`] if too many wait already.
    pub(super) async fn take(
        self: &Arc<Self>,
        destination: &Destination,
    ) -> Result<Slot, EgressError> {
        let busy = || EgressError::Busy {
            host: destination.host.clone(),
        };
        let endpoint = (destination.host.clone(), destination.port);
        let (registered, places) = self.register(endpoint).ok_or_else(busy)?;
        let of_host = places.acquire_owned().await.map_err(|_| busy())?;
        let all = Arc::clone(&self.all);
        let of_all = all.acquire_owned().await.map_err(|_| busy())?;
        Ok(Slot {
            _registered: registered,
            _of_host: of_host,
            _of_all: of_all,
        })
    }

    fn register(self: &Arc<Self>, endpoint: Endpoint) -> Option<(Registered, Arc<Semaphore>)> {
        let mut hosts = self.hosts();
        let users: usize = hosts.values().map(|host| host.users).sum();
        if users >= self.most_users {
            return None;
        }
        let entry = hosts.entry(endpoint.clone()).or_insert_with(|| Host {
            places: Arc::new(Semaphore::new(self.per_host)),
            users: 0,
        });
        if entry.users > self.per_host.saturating_mul(QUEUE + 1).saturating_sub(1) {
            return None;
        }
        entry.users += 1;
        let registered = Registered {
            slots: Arc::clone(self),
            endpoint,
        };
        Some((registered, Arc::clone(&entry.places)))
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<Endpoint, Host>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many hosts are being called.
    #[cfg(test)]
    pub(super) fn known_hosts(&self) -> usize {
        self.hosts().len()
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut hosts = self.slots.hosts();
        if let Some(host) = hosts.get_mut(&self.endpoint) {
            host.users -= 1;
            if host.users == 0 {
                hosts.remove(&self.endpoint);
            }
        }
    }
}
