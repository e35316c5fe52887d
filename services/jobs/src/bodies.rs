//! Bodies of requests and answers.

use std::{fmt, time::Duration};

use dotmac_platform::{
    db::types::Moment,
    jobs::{Attempt, JobId, KindStats, QueueStatus, Stats, StoredJob},
};
use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Which jobs.
#[derive(Deserialize, IntoParams)]
pub(crate) struct Asked {
    /// Only jobs in this state: `scheduled`, `ready`, `running`, `retrying`, `completed`, `failed`, `cancelled`, `parked`.
    pub(crate) state: Option<String>,
    /// Only jobs of this kind, as `files.render`.
    pub(crate) kind: Option<String>,
    /// Only jobs of this queue.
    pub(crate) queue: Option<String>,
}

/// A job to be.
#[derive(Deserialize, Validate, ToSchema)]
pub(crate) struct NewJob {
    /// Its kind, one of those that callers may enqueue: `system.echo`.
    #[garde(skip)]
    #[schema(example = "system.echo")]
    pub(crate) kind: String,
    /// The arguments of its kind, at most 65536 bytes of JSON.
    #[garde(skip)]
    #[schema(example = json!({"text": "hello"}))]
    pub(crate) args: Value,
    /// Another queue than that of its kind; one in which there have been jobs.
    #[garde(skip)]
    pub(crate) queue: Option<String>,
    /// From -100 to 100, lower first, among the tenant's jobs of the kind; 0 unless it is given.
    #[garde(range(min = -100, max = 100))]
    pub(crate) priority: Option<i32>,
    /// Not before that time (RFC 3339).
    #[garde(skip)]
    pub(crate) run_at: Option<Moment>,
    /// A key of which there is one job at a time.
    #[garde(skip)]
    pub(crate) unique: Option<Unique>,
}

/// A key of which there is one job at a time.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Unique {
    /// Until the job is finished.
    Key(String),
    /// And at least for a time after it was enqueued.
    For(UniqueFor),
}

/// A key with the time for which it is good at least.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UniqueFor {
    /// 1 to 255 bytes.
    key: String,
    /// In seconds.
    #[serde(default)]
    period_seconds: u32,
}

impl Unique {
    pub(crate) fn into_parts(self) -> (String, Duration) {
        match self {
            Self::Key(key) => (key, Duration::ZERO),
            Self::For(it) => (it.key, Duration::from_secs(it.period_seconds.into())),
        }
    }
}

/// A job.
#[derive(Clone, Serialize, ToSchema)]
#[schema(as = Job)]
pub(crate) struct JobBody {
    /// Its id, the same for each of its attempts.
    pub(crate) id: Uuid,
    /// Its kind: `files.render`.
    #[schema(example = "system.echo")]
    kind: String,
    /// Its queue.
    #[schema(example = "default")]
    queue: String,
    /// `scheduled`, `ready`, `running`, `retrying`, `completed`, `failed`, `cancelled` or `parked`.
    #[schema(example = "completed")]
    state: String,
    /// Lower first, among the tenant's jobs of the kind.
    priority: i32,
    /// Attempts that were begun.
    attempt: i32,
    /// Attempts that are made before it is `failed`.
    max_attempts: i32,
    /// When its next attempt is due, or its last one was.
    run_at: Moment,
    /// When it was enqueued.
    created_at: Moment,
    /// When its last attempt began.
    started_at: Option<Moment>,
    /// When it was finished.
    finished_at: Option<Moment>,
    /// How far its last attempt came.
    progress: ProgressBody,
    /// Its result, once it is `completed`.
    result: Option<Value>,
    /// The error of its last unsuccessful attempt.
    last_error: Option<ErrorBody>,
    /// The trace in which it was enqueued, which its attempts are a part of.
    trace_id: Option<String>,
}

/// How far a job has come.
#[derive(Clone, Default, Serialize, ToSchema)]
#[schema(as = JobProgress)]
pub(crate) struct ProgressBody {
    /// Finished parts, in the job's own unit.
    done: i64,
    /// All parts, if their number is known.
    total: Option<i64>,
    /// Its progress.
    message: Option<String>,
}

/// The error of an attempt.
#[derive(Clone, Serialize, ToSchema)]
#[schema(as = JobError)]
pub(crate) struct ErrorBody {
    /// For programs: `error`, `hung`, `crashed`, `panicked`, or a word of the kind's own.
    code: String,
    /// For people.
    message: String,
    /// When that was.
    at: Moment,
}

impl From<StoredJob> for JobBody {
    fn from(job: StoredJob) -> Self {
        Self {
            id: job.id.uuid(),
            kind: job.kind,
            queue: job.queue,
            state: job.state.as_str().to_owned(),
            priority: job.priority,
            attempt: job.attempt,
            max_attempts: job.max_attempts,
            run_at: job.run_at,
            created_at: job.created_at,
            started_at: job.started_at,
            finished_at: job.finished_at,
            progress: job
                .progress
                .map_or_else(ProgressBody::default, |it| ProgressBody {
                    done: it.done,
                    total: it.total,
                    message: Some(it.message),
                }),
            result: job.result,
            last_error: job.last_error.map(|it| ErrorBody {
                code: it.code,
                message: it.message,
                at: it.at,
            }),
            trace_id: job.trace_id,
        }
    }
}

impl JobBody {
    pub(crate) fn id(&self) -> JobId {
        JobId::from_uuid(self.id)
    }
}

/// A job, with its arguments and attempts.
#[derive(Serialize, ToSchema)]
#[schema(as = JobDetail)]
pub(crate) struct DetailBody {
    #[serde(flatten)]
    pub(crate) job: JobBody,
    /// How often it was running when its process ended, in a row. It is `parked` at 3.
    pub(crate) crashes: i32,
    /// Its arguments; `[redacted]` stands for those that its kind does not show.
    pub(crate) args: Value,
    /// Its last 100 attempts that did not succeed, in order.
    pub(crate) attempts: Vec<AttemptBody>,
}

/// An attempt that did not succeed.
#[derive(Serialize, ToSchema)]
#[schema(as = JobAttempt)]
pub(crate) struct AttemptBody {
    /// Its number.
    attempt: i32,
    /// A word for how it ended.
    code: String,
    /// The same for people.
    message: String,
    /// When it began.
    started_at: Option<Moment>,
    /// When it ended.
    ended_at: Moment,
}

impl From<Attempt> for AttemptBody {
    fn from(it: Attempt) -> Self {
        Self {
            attempt: it.attempt,
            code: it.code,
            message: it.message,
            started_at: it.started_at,
            ended_at: it.ended_at,
        }
    }
}

/// How the tenant's jobs are doing.
#[derive(Serialize, ToSchema)]
#[schema(as = JobStats)]
pub(crate) struct StatsBody {
    /// By kind and queue; without those of which all jobs are completed or cancelled.
    kinds: Vec<KindBody>,
}

/// How the jobs of one kind and queue are doing.
#[derive(Serialize, ToSchema)]
#[schema(as = JobKindStats)]
pub(crate) struct KindBody {
    /// The kind.
    kind: String,
    /// The queue.
    queue: String,
    /// Jobs that wait for their time.
    scheduled: i64,
    /// Jobs that wait for a worker.
    ready: i64,
    /// Jobs that run.
    running: i64,
    /// Jobs that wait for another attempt.
    retrying: i64,
    /// Jobs that have failed.
    failed: i64,
    /// Jobs that took their process down too often.
    parked: i64,
    /// How long the oldest ready job has waited.
    oldest_ready_seconds: i64,
}

impl From<Stats> for StatsBody {
    fn from(stats: Stats) -> Self {
        let body = |it: KindStats| KindBody {
            kind: it.kind,
            queue: it.queue,
            scheduled: it.scheduled,
            ready: it.ready,
            running: it.running,
            retrying: it.retrying,
            failed: it.failed,
            parked: it.parked,
            oldest_ready_seconds: it.oldest_ready_seconds,
        };
        Self {
            kinds: stats.kinds.into_iter().map(body).collect(),
        }
    }
}

/// A queue, with the jobs of all tenants.
#[derive(Serialize, ToSchema)]
#[schema(as = Queue)]
pub(crate) struct QueueBody {
    /// Its name.
    name: String,
    /// Whether its jobs do not begin.
    paused: bool,
    /// Since when.
    paused_at: Option<Moment>,
    /// Jobs that wait for their time.
    scheduled: i64,
    /// Jobs that wait for a worker.
    ready: i64,
    /// Jobs that run.
    running: i64,
    /// Jobs that wait for another attempt.
    retrying: i64,
    /// How long the oldest ready job has waited.
    oldest_ready_seconds: i64,
}

impl fmt::Display for QueueBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.paused { ", paused" } else { "" };
        write!(
            f,
            "{}{state}: {} scheduled, {} ready, {} running, {} retrying; oldest ready {} s",
            self.name,
            self.scheduled,
            self.ready,
            self.running,
            self.retrying,
            self.oldest_ready_seconds
        )
    }
}

impl QueueBody {
    pub(crate) fn new(queue: QueueStatus, stats: &Stats) -> Self {
        let of = |count: fn(&KindStats) -> i64| {
            let mine = stats.kinds.iter().filter(|it| it.queue == queue.name);
            mine.map(count)
        };
        Self {
            paused: queue.paused_at.is_some(),
            paused_at: queue.paused_at,
            scheduled: of(|it| it.scheduled).sum(),
            ready: of(|it| it.ready).sum(),
            running: of(|it| it.running).sum(),
            retrying: of(|it| it.retrying).sum(),
            oldest_ready_seconds: of(|it| it.oldest_ready_seconds).max().unwrap_or(0),
            name: queue.name,
        }
    }
}
