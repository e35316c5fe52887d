//! The threads that handlers run on.

use std::{future::Future, io};

use tokio::{runtime::Runtime, task::AbortHandle};

/// Handlers wait more than they compute. What blocks belongs into `spawn_blocking`.
const THREADS: usize = 4;
const BLOCKING_THREADS: usize = 64;

/// A runtime of a life of the worker.
pub(super) struct Threads(Option<Runtime>);

impl Threads {
    /// # Errors
    ///
    /// The operating system has no thread left.
    pub(super) fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("dotmac-jobs")
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    pub(super) fn spawn(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> Option<AbortHandle> {
        let runtime = self.0.as_ref()?;
        Some(runtime.spawn(task).abort_handle())
    }

    /// How many tasks that hold their thread hold up all others.
    pub(super) const fn count(&self) -> usize {
        THREADS
    }
}

impl Drop for Threads {
    /// The last holder may be a task of these threads, where waiting for them would panic.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
