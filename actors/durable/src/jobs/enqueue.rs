//! Enqueueing: the jobs that a transaction wants done, written just before its commit; a few in one go with it.

use std::borrow::Cow;

use diesel::result::Error as QueryError;
use dotmac_db::{AcrossTx, DbError, Tx, types::Moment};
use serde_json::Value;

use super::{
    EnqueueOptions, Job, JobId, JobState, KindSpec, MAX_ARGS,
    options::check,
    unique, waiting,
    write::{Batch, FEW, NewJob, NewPayload, insert, insert_with_commit},
};
use crate::{declared::Declared, json_text::JsonText, trace::traceparent, wake};

/// The kinds of each module that is part of a program.
static DECLARED: Declared = Declared::new();

/// Says that `module` is part of the program and has jobs of these kinds. Its work enqueues them, and those of other modules,
/// and no others: no handler would run them.
pub fn declare(module: &'static str, kinds: impl IntoIterator<Item = &'static str>) {
    DECLARED.add(module, kinds);
}

/// The most jobs of one transaction.
pub const MAX_JOBS: usize = 1000;
/// The hook before the commit that writes what was collected.
const HOOK: &str = "jobs";

/// Jobs as part of a transaction.
pub trait Enqueue {
    /// Has `job` done once the transaction is committed, as the rules of its kind say.
    ///
    /// Its tenant is that of the transaction's scope, its trace the current span's.
    ///
    /// # Errors
    ///
    /// [`EnqueueError`]; the transaction is then rolled back, even if its work ignores the error.
    fn enqueue<J: Job>(
        &mut self,
        job: &J,
    ) -> impl Future<Output = Result<Enqueued, EnqueueError>> + Send {
        self.enqueue_with(job, EnqueueOptions::default())
    }

    /// The same, with a queue, a time, a priority or a unique key of its own.
    ///
    /// # Errors
    ///
    /// As [`enqueue`](Self::enqueue).
    fn enqueue_with<J: Job>(
        &mut self,
        job: &J,
        options: EnqueueOptions,
    ) -> impl Future<Output = Result<Enqueued, EnqueueError>> + Send;

    /// The same for arguments whose type is not known here: from outside the program, or from a schedule.
    ///
    /// # Errors
    ///
    /// As [`enqueue`](Self::enqueue).
    fn enqueue_args(
        &mut self,
        kind: &KindSpec,
        args: &Value,
        options: EnqueueOptions,
    ) -> impl Future<Output = Result<Enqueued, EnqueueError>> + Send;
}

/// What became of a job that was enqueued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enqueued {
    /// It is there.
    New(JobId),
    /// Another of the same kind has its unique key already.
    Existing(JobId),
}

impl Enqueued {
    /// The job that does it.
    #[must_use]
    pub const fn id(self) -> JobId {
        match self {
            Self::New(id) | Self::Existing(id) => id,
        }
    }
}

/// Why a job was not taken. The transaction is then rolled back, regardless of its work's result.
#[derive(Debug, thiserror::Error)]
pub enum EnqueueError {
    /// The arguments cannot be written as JSON, or are none of the kind.
    #[error("wrong arguments for a job `{kind}`: {problem}")]
    Args {
        /// The job's kind.
        kind: &'static str,
        /// What serde said.
        problem: String,
    },
    /// The arguments are too large.
    #[error(
        "the arguments of a job `{kind}` have {bytes} bytes; {MAX_ARGS} are allowed, so refer to large data instead"
    )]
    TooLarge {
        /// The job's kind.
        kind: &'static str,
        /// What they have.
        bytes: usize,
    },
    /// The transaction has as many as it may have.
    #[error("a transaction enqueues at most {MAX_JOBS} jobs; the job `{kind}` exceeds that")]
    TooMany {
        /// The job's kind.
        kind: &'static str,
    },
    /// As many jobs of the tenant and kind wait as may wait.
    #[error("{waiting} jobs `{kind}` are waiting; no more are accepted until some end")]
    TooManyWaiting {
        /// The job's kind.
        kind: &'static str,
        /// How many wait.
        waiting: i64,
    },
    /// No module lists the kind in its manifest, so nothing does such jobs.
    #[error("module `{module}` enqueues a job `{kind}`, which no manifest lists")]
    Unlisted {
        /// The job's kind.
        kind: &'static str,
        /// The module.
        module: &'static str,
    },
    /// One of the options is out of its range.
    #[error("{field} of a job `{kind}` {problem}")]
    Option {
        /// The job's kind.
        kind: &'static str,
        /// Which.
        field: &'static str,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// The database did not do it.
    #[error(transparent)]
    Database(#[from] DbError),
}

impl From<EnqueueError> for DbError {
    /// A value that the queue cannot take, so that rules which return [`DbError`] can pass it on.
    fn from(error: EnqueueError) -> Self {
        match error {
            EnqueueError::Database(error) => error,
            error => Self::InvalidData(QueryError::SerializationError(Box::new(error))),
        }
    }
}

impl Enqueue for Tx {
    fn enqueue_with<J: Job>(
        &mut self,
        job: &J,
        options: EnqueueOptions,
    ) -> impl Future<Output = Result<Enqueued, EnqueueError>> + Send {
        let args = serde_json::to_string(job);
        async move { enqueue(self, &KindSpec::of::<J>(), args, options).await }
    }

    fn enqueue_args(
        &mut self,
        kind: &KindSpec,
        args: &Value,
        options: EnqueueOptions,
    ) -> impl Future<Output = Result<Enqueued, EnqueueError>> + Send {
        let checked = kind.check(args);
        let args = checked.and_then(|()| serde_json::to_string(args));
        async move { enqueue(self, kind, args, options).await }
    }
}

/// What a transaction has enqueued.
#[derive(Default)]
struct Collected {
    jobs: Vec<NewJob>,
    payloads: Vec<NewPayload>,
    /// Those that are written with the commit.
    closing: Vec<JobId>,
    /// How many, those that are written included.
    count: usize,
    refused: Option<String>,
    /// Whether that was because there are as many as there may be.
    is_full: bool,
}

async fn enqueue(
    tx: &mut Tx,
    kind: &KindSpec,
    args: serde_json::Result<String>,
    options: EnqueueOptions,
) -> Result<Enqueued, EnqueueError> {
    tx.before_commit(HOOK, async |tx: &mut Tx| write(tx).await);
    let done = try_enqueue(tx, kind, args, options).await;
    if let Err(error) = &done {
        let collected = tx.slot::<Collected>();
        if collected.refused.is_none() {
            collected.refused = Some(error.to_string());
            collected.is_full = matches!(error, EnqueueError::TooMany { .. });
        }
    }
    done
}

async fn try_enqueue(
    tx: &mut Tx,
    spec: &KindSpec,
    args: serde_json::Result<String>,
    options: EnqueueOptions,
) -> Result<Enqueued, EnqueueError> {
    let kind = spec.kind;
    if let Some(module) = DECLARED.unlisted_by(tx.module(), kind) {
        return Err(EnqueueError::Unlisted { kind, module });
    }
    let args = args.map_err(|error| EnqueueError::Args {
        kind,
        problem: error.to_string(),
    })?;
    if args.len() > MAX_ARGS {
        let bytes = args.len();
        return Err(EnqueueError::TooLarge { kind, bytes });
    }
    check(kind, &options)?;
    let tenant_id = tx.tenant().unwrap_or(super::SYSTEM);
    let actor = tx.actor().map(|actor| actor.to_string());
    let collected = tx.slot::<Collected>();
    if collected.count >= MAX_JOBS {
        return Err(EnqueueError::TooMany { kind });
    }
    let mine = |it: &&NewJob| it.kind == kind && it.tenant_id == tenant_id;
    let unwritten = collected.jobs.iter().filter(mine).count();
    let id = JobId::new();
    if let Some(wanted) = &options.unique
        && let Some(existing) = unique::reserve(tx, (tenant_id, kind), wanted, id).await?
    {
        return Ok(Enqueued::Existing(existing));
    }
    waiting::check(tx, (tenant_id, kind), unwritten).await?;
    let now = Moment::now();
    let run_at = options.run_at.unwrap_or(now);
    let state = if run_at > now {
        JobState::Scheduled
    } else {
        JobState::Ready
    };
    let max_attempts = options.max_attempts.unwrap_or(spec.rules.max_attempts);
    let queue = options.queue.unwrap_or(Cow::Borrowed(spec.rules.queue));
    let collected = tx.slot::<Collected>();
    collected.count += 1;
    collected.jobs.push(NewJob {
        id,
        tenant_id,
        kind,
        queue,
        state,
        priority: options.priority,
        run_at,
        max_attempts: i32::try_from(max_attempts).unwrap_or(i32::MAX),
        created_at: now,
    });
    collected.payloads.push(NewPayload {
        job_id: id,
        tenant_id,
        args: JsonText(args),
        actor,
        traceparent: traceparent(),
    });
    Ok(Enqueued::New(id))
}

/// Whether a job was refused because the transaction has as many as it may have.
pub(crate) fn is_full(tx: &mut AcrossTx<'_>) -> bool {
    tx.slot::<Collected>().is_full
}

/// Writes what the transaction has enqueued so far, so that it can read it.
///
/// # Errors
///
/// [`DbError`]; also that of a job which was refused.
pub async fn flush(tx: &mut Tx) -> Result<(), DbError> {
    match take(tx)? {
        Some(batch) => insert(tx, batch).await,
        None => Ok(()),
    }
}

/// Whether the transaction has enqueued that job and not written it yet.
pub(super) fn is_unwritten(tx: &mut Tx, id: JobId) -> bool {
    let collected = tx.slot::<Collected>();
    let mut waiting = collected.jobs.iter().map(|job| job.id);
    waiting.any(|it| it == id) || collected.closing.contains(&id)
}

/// Writes what was collected.
async fn write(tx: &mut Tx) -> Result<(), DbError> {
    match take(tx)? {
        Some(batch) if batch.jobs.len() <= FEW => {
            let ids = batch.jobs.iter().map(|job| job.id);
            tx.slot::<Collected>().closing.extend(ids);
            insert_with_commit(tx, batch);
            Ok(())
        }
        Some(batch) => insert(tx, batch).await,
        None => Ok(()),
    }
}

/// Takes what was collected, and has this process look for such jobs; `None` if there is nothing.
fn take(tx: &mut Tx) -> Result<Option<Batch>, DbError> {
    let collected = tx.slot::<Collected>();
    if let Some(problem) = &collected.refused {
        let refused = QueryError::SerializationError(problem.clone().into());
        return Err(DbError::InvalidData(refused));
    }
    let (jobs, payloads) = (
        std::mem::take(&mut collected.jobs),
        std::mem::take(&mut collected.payloads),
    );
    if jobs.is_empty() {
        return Ok(None);
    }
    let ready = jobs.iter().filter(|job| job.state == JobState::Ready);
    let mut kinds: Vec<_> = ready.map(|job| job.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    tx.after_commit(move || wake::wake(&kinds));
    Ok(Some(Batch {
        queues: jobs.iter().map(|job| job.queue.clone()).collect(),
        jobs,
        payloads,
    }))
}
