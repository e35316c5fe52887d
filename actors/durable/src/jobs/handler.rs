//! Handlers: the functions that do jobs.

use std::sync::Arc;

use dotmac_db::{DbError, ModuleDb, TenantTx, Work};
use futures_util::future::BoxFuture;
use serde_json::Value;

use super::{
    Job, JobError, KindSpec, Run,
    error::{LeaseLost, Then},
    run::{RunState, result},
};
use crate::events::Handles;

type Handle = dyn Fn(Value, Arc<RunState>) -> BoxFuture<'static, Result<Option<String>, JobError>>
    + Send
    + Sync;

/// The function that does jobs of one kind.
///
/// ```
/// use dotmac_durable::jobs::{Job, JobError, JobHandler, Run};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)]
/// # struct Reindex { folder: u64 }
/// # impl Job for Reindex {
/// #     const KIND: &'static str = "notes.reindex";
/// #     type Output = u64;
/// # }
///
/// async fn reindex(run: Run<Reindex>) -> Result<u64, JobError> {
///     for part in 0..10 {
///         if run.is_cancelled() {
///             return Err(JobError::cancelled());
///         }
///         run.progress(part, Some(10), "reading");
///     }
///     Ok(run.folder)
/// }
///
/// let handler = JobHandler::new(reindex);
/// ```
#[derive(Clone)]
pub struct JobHandler {
    pub(super) spec: KindSpec,
    handle: Arc<Handle>,
}

impl JobHandler {
    /// Calls `handler` for each attempt. What it does happens at least once: it may be called again after it has done
    /// everything, if the process ends before that is written down. What must happen once is done in a transaction with
    /// [`Run::complete`], or elsewhere with [`Run::id`] as a key.
    pub fn new<J, H, X>(handler: H) -> Self
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
        Self::of::<J>(move |args, state| {
            let (handler, run) = (handler.clone(), Run::new(args, state));
            Box::pin(async move {
                let output = handler(run).await.map_err(Into::into)?;
                result(&output)
            })
        })
    }

    /// Calls `handler` on a transaction of the job's tenant, with which the job is completed: what it writes there takes
    /// place exactly once. It makes no external call, since the transaction is open meanwhile. A job of the system fails.
    pub fn in_transaction<J, H, X>(db: &ModuleDb, handler: H) -> Self
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
        let db = db.clone();
        Self::of::<J>(move |args, state| {
            let (db, handler) = (db.clone(), handler.clone());
            let run = Arc::new(Run::new(args, state));
            Box::pin(async move {
                let Some(scope) = run.scope() else {
                    let message = "the handler needs a tenant, and the job has none";
                    return Err(JobError::fail("tenant_missing", message));
                };
                let work = async move |tx: &mut TenantTx| {
                    run.guard(tx).await?;
                    // The transaction is the database's to end, and not that of the task which waits for it: one that was
                    // given up would keep its locks, and with them its job.
                    let output = tokio::select! {
                        output = handler(tx, Arc::clone(&run)) => output,
                        () = run.given_up() => return Err(Rejected::from(LeaseLost)),
                    };
                    let output = output.map_err(|error| Rejected(error.into()))?;
                    run.complete(tx, &output).await?;
                    result(&output).map_err(Rejected)
                };
                let done = db.tenant(&scope).transaction(J::KIND, work);
                done.await.map_err(|Rejected(error)| error)
            })
        })
    }

    fn of<J: Job>(
        handle: impl Fn(J, Arc<RunState>) -> BoxFuture<'static, Result<Option<String>, JobError>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self {
            spec: KindSpec::of::<J>(),
            handle: Arc::new(move |args, state| match serde_json::from_value(args) {
                Ok(args) => handle(args, state),
                Err(error) => {
                    let error = JobError::fail("args_invalid", error.to_string());
                    Box::pin(std::future::ready(Err(error)))
                }
            }),
        }
    }

    /// The kind that it does.
    #[must_use]
    pub fn spec(&self) -> &KindSpec {
        &self.spec
    }

    pub(super) fn call(
        &self,
        args: Value,
        state: Arc<RunState>,
    ) -> BoxFuture<'static, Result<Option<String>, JobError>> {
        (self.handle)(args, state)
    }
}

/// The error of a handler, through a transaction.
struct Rejected(JobError);

impl From<LeaseLost> for Rejected {
    fn from(error: LeaseLost) -> Self {
        Self(error.into())
    }
}

impl From<DbError> for Rejected {
    fn from(error: DbError) -> Self {
        Self(error.into())
    }
}

impl JobError {
    /// Whether the attempt that ends with it counts.
    pub(super) fn is_uncounted(&self) -> bool {
        matches!(self.then, Then::Uncounted(_) | Then::NotYet(_))
    }
}
