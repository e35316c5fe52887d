//! From names to addresses, and the connection that goes to just these.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::Arc,
};

use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::{sync::Semaphore, task::spawn_blocking};

/// Names that are looked up at once. One that takes long keeps its thread after its caller has given up.
pub(super) const LOOKUPS: usize = 32;

/// Of more addresses of one name the rest is neither judged nor used.
const MOST_ADDRESSES: usize = 32;

/// Looks names up.
pub(super) trait Lookup: Send + Sync {
    /// All addresses of the host `name`; none if it has none.
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The system's resolver, `getaddrinfo`: what `/etc/hosts`, `resolv.conf` and `nsswitch.conf` say holds.
pub(super) struct SystemLookup(Arc<Semaphore>);

impl SystemLookup {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(LOOKUPS)))
    }
}

impl Lookup for SystemLookup {
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let (permits, name) = (Arc::clone(&self.0), name.to_owned());
        Box::pin(async move {
            let permit = permits.acquire_owned().await.map_err(io::Error::other)?;
            let found = spawn_blocking(move || {
                let found = (name.as_str(), 0).to_socket_addrs();
                drop(permit);
                found
            });
            let found = found.await.map_err(io::Error::other)??;
            Ok(found.map(|found| found.ip()).take(MOST_ADDRESSES).collect())
        })
    }
}

/// Resolves every name to the checked addresses: a connection cannot go anywhere else, even if the name has changed.
pub(super) struct Pinned(pub(super) Vec<IpAddr>);

impl Resolve for Pinned {
    fn resolve(&self, _: Name) -> Resolving {
        // The port 0 is replaced by that of the URL.
        let addresses: Vec<_> = self.0.iter().map(|ip| SocketAddr::new(*ip, 0)).collect();
        let addresses: Addrs = Box::new(addresses.into_iter());
        Box::pin(std::future::ready(Ok(addresses)))
    }
}
