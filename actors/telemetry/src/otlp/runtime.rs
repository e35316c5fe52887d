//! The thread pool that drives the exporters' connections.

use std::sync::Arc;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::{error::TelemetryError, watch_runtime_of};

/// A runtime of one worker. Shared by everything that exports through it, so it outlives the last
/// export under way.
#[derive(Debug)]
pub(crate) struct ExportRuntime(Option<Runtime>, Handle);

impl ExportRuntime {
    /// Starts the worker.
    ///
    /// # Errors
    ///
    /// [`TelemetryError::Runtime`] if the system has no thread left.
    pub(crate) fn start() -> Result<Arc<Self>, TelemetryError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("telemetry-export")
            .enable_all()
            .build()
            .map_err(TelemetryError::Runtime)?;
        let handle = runtime.handle().clone();
        watch_runtime_of(&handle, "export");
        Ok(Arc::new(Self(Some(runtime), handle)))
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.1
    }
}

impl Drop for ExportRuntime {
    fn drop(&mut self) {
        // A runtime dropped inside async code panics, and waits for its blocking tasks elsewhere;
        // this does neither.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
