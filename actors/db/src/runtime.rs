//! The runtime that all database work runs on.

use std::{sync::Arc, time::Duration};

use super::OpenError;

/// Threads for queries' own work; the waiting is the database's.
pub(super) const WORKER_THREADS: usize = 2;

/// SQLite's work blocks: one thread for each connection that may be asked for, and some for opening and
/// watching. They are started when they are needed and end when they are not.
const BLOCKING_THREADS: usize = 1024;

/// How long a blocking thread waits for more work. Short, since threads wake in turn: each piece of periodic work of an
/// idle daemon would keep another one alive, with its stack and the allocator's cache.
const BLOCKING_THREAD_KEPT: Duration = Duration::from_millis(250);

/// The runtime of all database work: multi-threaded, because migrations block in place, and apart from HTTP,
/// so that neither can hold up the other.
#[derive(Clone)]
pub(super) struct DbRuntime(Arc<Inner>);

struct Inner(Option<tokio::runtime::Runtime>, tokio::runtime::Handle);

impl DbRuntime {
    /// # Errors
    ///
    /// [`OpenError::Setup`] if the operating system has no thread left.
    pub(super) fn start(observe: Option<fn(&tokio::runtime::Handle)>) -> Result<Self, OpenError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKER_THREADS)
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_keep_alive(BLOCKING_THREAD_KEPT)
            .thread_name("dotmac-db")
            .enable_all()
            .build()
            .map_err(|error| OpenError::Setup(error.to_string()))?;
        let handle = runtime.handle().clone();
        observe.iter().for_each(|observe| observe(&handle));
        Ok(Self(Arc::new(Inner(Some(runtime), handle))))
    }

    pub(super) fn handle(&self) -> &tokio::runtime::Handle {
        &self.0.1
    }
}

impl Drop for Inner {
    /// The last holder may be a task of any runtime, where waiting for threads would panic.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
