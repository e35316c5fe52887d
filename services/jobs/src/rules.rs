//! The rules of jobs. Each rule is a function over a transaction.

use dotmac_platform::{
    audit::{Audit as _, Audited, AuditedAct, Recorded},
    db::{Connection, TenantTx, Tx},
    jobs::{
        self, Acted, Enqueue as _, EnqueueError, EnqueueOptions, JobCatalogue, JobFilter, JobId,
        JobState, KindSpec, MAX_ARGS, QueueStatus, is_job_kind, is_queue_name,
    },
    routing::InvalidRequest,
};

use crate::{
    JobsError, acts,
    bodies::{Asked, AttemptBody, DetailBody, JobBody, NewJob, QueueBody},
};

/// The filter that a query asks for.
///
/// # Errors
///
/// [`JobsError::Invalid`] for what is no state, kind or queue.
pub(crate) fn filter(asked: &Asked) -> Result<JobFilter, JobsError> {
    let wrong =
        |parameter, problem: &str| Err(InvalidRequest::query(parameter, problem.to_owned()).into());
    let state = match asked.state.as_deref().map(str::parse::<JobState>) {
        None => None,
        Some(Ok(state)) => Some(state),
        Some(Err(error)) => return wrong("state", &error.to_string()),
    };
    if !asked.kind.as_deref().is_none_or(is_job_kind) {
        return wrong("kind", "is a kind of jobs, as `files.render`");
    }
    if !asked.queue.as_deref().is_none_or(is_queue_name) {
        return wrong("queue", "is the name of a queue, as `default`");
    }
    Ok(JobFilter {
        state,
        kind: asked.kind.clone(),
        queue: asked.queue.clone(),
    })
}

/// The job of that id.
///
/// # Errors
///
/// [`JobsError::NotFound`], also for one of another tenant.
pub(crate) async fn one(tx: &mut TenantTx, id: JobId) -> Result<JobBody, JobsError> {
    let found = jobs::find(tx, id).await?.ok_or(JobsError::NotFound)?;
    Ok(found.into())
}

/// The same, with arguments and attempts.
///
/// # Errors
///
/// As there.
pub(crate) async fn detail(
    tx: &mut TenantTx,
    catalogue: &JobCatalogue,
    id: JobId,
) -> Result<DetailBody, JobsError> {
    let job = jobs::find(tx, id).await?.ok_or(JobsError::NotFound)?;
    let args = jobs::args(tx, id).await?.unwrap_or_default();
    let attempts = jobs::attempts(tx, id).await?;
    let spec = catalogue.find(&job.kind);
    Ok(DetailBody {
        crashes: job.crashes,
        // Of a kind that this program does not have, nothing may be shown.
        args: match spec {
            Some(spec) => spec.redact(args),
            None => jobs::redact(&[], args),
        },
        attempts: attempts.into_iter().map(AttemptBody::from).collect(),
        job: job.into(),
    })
}

/// Enqueues a job of a kind that callers may enqueue.
///
/// # Errors
///
/// [`JobsError::Invalid`] names each field that is not acceptable; [`JobsError::Enqueue`] if there is no room.
pub(crate) async fn enqueue(
    tx: &mut TenantTx,
    catalogue: &JobCatalogue,
    new: NewJob,
) -> Result<Audited<JobBody>, JobsError> {
    let mut wrong = Vec::new();
    let spec = catalogue
        .find(&new.kind)
        .filter(|spec| spec.rules.is_public);
    match spec {
        None => wrong.push(("kind", no_such_kind(catalogue))),
        Some(spec) => {
            let (kind, bytes) = (spec.kind, new.args.to_string().len());
            if bytes > MAX_ARGS {
                return Err(EnqueueError::TooLarge { kind, bytes }.into());
            }
            if let Err(problem) = spec.check(&new.args) {
                wrong.push(("args", problem.to_string()));
            }
        }
    }
    if let Some(queue) = &new.queue {
        let known = jobs::queues(tx).await?;
        let own = spec.is_some_and(|spec| spec.rules.queue == queue);
        if !own && known.iter().all(|it| it.name != *queue) {
            wrong.push(("queue", "is a queue that never had a job".to_owned()));
        }
    }
    let Some(spec) = spec.filter(|_| wrong.is_empty()) else {
        return Err(InvalidRequest::fields(wrong).into());
    };
    let mut options = EnqueueOptions::new().priority(new.priority.unwrap_or(0));
    if let Some(queue) = new.queue {
        options = options.queue(queue);
    }
    if let Some(run_at) = new.run_at {
        options = options.run_at(run_at);
    }
    if let Some((key, period)) = new.unique.map(|it| it.into_parts()) {
        options = options.unique_for(key, period);
    }
    let id = tx.enqueue_args(&spec, &new.args, options).await?.id();
    // Written now, since the answer shows it.
    jobs::flush(tx).await?;
    let entry = acts::upon_job(acts::ENQUEUE, id).detail("kind", spec.kind);
    let recorded = tx.audit(entry)?;
    Ok(recorded.of(one(tx, id).await?))
}

/// The valid form of a kind.
pub(crate) fn no_such_kind(catalogue: &JobCatalogue) -> String {
    let public = catalogue.kinds().iter().filter(|it| it.rules.is_public);
    let public: Vec<_> = public.map(|it: &KindSpec| it.kind).collect();
    format!(
        "is no kind of jobs that can be enqueued here; there are: {}",
        public.join(", ")
    )
}

/// The operations on a job.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    Cancel,
    Retry,
    RunNow,
}

impl Act {
    fn recorded_as(self) -> AuditedAct {
        match self {
            Self::Cancel => acts::CANCEL,
            Self::Retry => acts::RETRY,
            Self::RunNow => acts::RUN_NOW,
        }
    }

    fn wanted(self) -> &'static str {
        match self {
            Self::Cancel => "only one that is not finished can be cancelled",
            Self::Retry => "only one that is failed, cancelled or parked can be retried",
            Self::RunNow => "only one that is scheduled or retrying can be run now",
        }
    }
}

/// Does it, on a transaction of the job's tenant or of the system.
///
/// # Errors
///
/// [`JobsError::NotFound`], [`JobsError::State`], [`JobsError::KeyTaken`].
pub(crate) async fn act(tx: &mut Tx, id: JobId, act: Act) -> Result<Audited<()>, JobsError> {
    let acted = match act {
        Act::Cancel => jobs::cancel(tx, id).await?,
        Act::Retry => jobs::retry(tx, id).await?,
        Act::RunNow => jobs::run_now(tx, id).await?,
    };
    match acted {
        Acted::Done(_) => Ok(tx.audit(acts::upon_job(act.recorded_as(), id))?.of(())),
        Acted::Unknown => Err(JobsError::NotFound),
        Acted::KeyTaken(holder) => Err(JobsError::KeyTaken { holder }),
        Acted::Refused(state) => Err(JobsError::State {
            state,
            wanted: act.wanted(),
        }),
    }
}

/// All queues, with the jobs of all tenants.
///
/// # Errors
///
/// The database's.
pub(crate) async fn queues(c: &mut Connection) -> Result<Vec<QueueBody>, JobsError> {
    let stats = jobs::stats_of_all(c).await?;
    let queues = jobs::queues(c).await?;
    let body = |queue: QueueStatus| QueueBody::new(queue, &stats);
    Ok(queues.into_iter().map(body).collect())
}

/// Has jobs of a queue begin, or not; `recorded` is the entry of [`acts::upon_queue`].
///
/// # Errors
///
/// [`JobsError::NoQueue`].
pub(crate) async fn set_paused(
    tx: &mut Tx,
    name: &str,
    is_paused: bool,
    recorded: Recorded,
) -> Result<Audited<QueueBody>, JobsError> {
    let is_there = match is_paused {
        true => jobs::pause(tx, name).await?,
        false => jobs::resume(tx, name).await?,
    };
    if !is_there {
        return Err(JobsError::NoQueue);
    }
    let stats = jobs::stats_of_all(tx).await?;
    let queues = jobs::queues(tx).await?;
    let this = queues.into_iter().find(|it| it.name == name);
    let this = this.ok_or(JobsError::NoQueue)?;
    Ok(recorded.of(QueueBody::new(this, &stats)))
}
