//! The jobs of a module.

use std::sync::Arc;

use dotmac_db::{TenantTx, Work};

use super::{Mount, MountError};
use crate::jobs::{Handles, Job, JobCatalogue, JobError, JobHandler, Kept, Run};

impl Mount<'_> {
    /// Has `handler` do the jobs of its kind, at least once each: see [`JobHandler::new`] for what it promises.
    ///
    /// # Errors
    ///
    /// [`MountError`]: the module's manifest does not list the kind, or another handler does such jobs.
    pub fn job<J, H, X>(&mut self, handler: H) -> Result<(), MountError>
    where
        J: Job,
        H: AsyncFnOnce(Run<J>) -> Result<J::Output, X>
            + Work<Run<J>, Result<J::Output, X>, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
        X: Into<JobError> + Send + 'static,
    {
        self.handle(JobHandler::new(handler))
    }

    /// Has `handler` do the jobs of its kind on a transaction of the job's tenant, with which the job is completed: what it
    /// writes there takes place once. See [`JobHandler::in_transaction`].
    ///
    /// # Errors
    ///
    /// As [`job`](Self::job).
    pub fn job_in_transaction<J, H, X>(&mut self, handler: H) -> Result<(), MountError>
    where
        J: Job,
        J::Output: Sync,
        for<'c> H: AsyncFnOnce(&'c mut TenantTx, Arc<Run<J>>) -> Result<J::Output, X>
            + Handles<&'c mut TenantTx, Arc<Run<J>>, Result<J::Output, X>, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
        X: Into<JobError> + Send + 'static,
    {
        let handler = JobHandler::in_transaction(&self.db, handler);
        self.handle(handler)
    }

    fn handle(&mut self, handler: JobHandler) -> Result<(), MountError> {
        let kind = handler.spec().kind;
        let mine = (kind, self.module);
        let is_listed = self
            .assembly
            .jobs
            .owned()
            .any(|(spec, module)| (spec.kind, module) == mine);
        if !is_listed {
            return Err(MountError::other(format!(
                "it has a handler for jobs `{kind}`, but its manifest lacks `jobs::<J>()`"
            )));
        }
        let handlers = &mut self.assembly.job_handlers;
        if handlers.iter().any(|it| it.spec().kind == kind) {
            return Err(MountError::other(format!(
                "it has two handlers for jobs `{kind}`"
            )));
        }
        handlers.push(handler);
        Ok(())
    }

    /// The kinds of jobs of the program's modules.
    #[must_use]
    pub fn job_catalogue(&self) -> JobCatalogue {
        self.assembly.jobs.clone()
    }

    /// Keeps finished jobs for so long, in place of what [`Kept`] says by default. For the whole program.
    pub fn keep_jobs(&mut self, keep: Kept) {
        self.assembly.jobs_kept = Some(keep);
    }
}
