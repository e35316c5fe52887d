//! Errors of jobs, and the answers to clients.

use std::time::Duration;

use dotmac_platform::{
    audit::AuditError,
    db::DbError,
    http::Problem,
    jobs::{EnqueueError, JobId, JobState, MAX_SCHEDULES, ScheduleError},
    routing::{ApiError, InvalidRequest, PreconditionFailed, ProblemType},
};

const NOT_FOUND: ProblemType = ProblemType::new(404, "job_not_found", "there is no such job");
const NO_QUEUE: ProblemType = ProblemType::new(404, "queue_not_found", "there is no such queue");
const NO_SCHEDULE: ProblemType =
    ProblemType::new(404, "schedule_not_found", "there is no such schedule");
const SCHEDULE_EXISTS: ProblemType =
    ProblemType::new(409, "schedule_exists", "a schedule of that name exists");
const TOO_MANY_SCHEDULES: ProblemType = ProblemType::new(
    409,
    "too_many_schedules",
    "the tenant has reached the limit of schedules",
);
const NO_KIND: ProblemType =
    ProblemType::new(409, "kind_absent", "the program has no jobs of that kind");
const STATE: ProblemType =
    ProblemType::new(409, "job_state", "the state of the job does not allow it");
const KEY_TAKEN: ProblemType = ProblemType::new(
    409,
    "unique_key_taken",
    "another job that is not finished has the unique key",
);
const TOO_LARGE: ProblemType = ProblemType::new(
    413,
    "args_too_large",
    "the arguments of a job may have 65536 bytes of JSON",
);
const TOO_MANY: ProblemType = ProblemType::new(
    429,
    "too_many_waiting",
    "too many jobs of this kind are waiting",
);

/// When another try may find room.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Why something cannot be done with jobs.
#[derive(Debug, thiserror::Error)]
pub enum JobsError {
    /// No job of that id belongs to the tenant.
    #[error("there is no such job")]
    NotFound,
    /// No queue has that name.
    #[error("there is no such queue")]
    NoQueue,
    /// No schedule of that id belongs to the tenant.
    #[error("there is no such schedule")]
    NoSchedule,
    /// The tenant has a schedule of that name.
    #[error("a schedule with that name exists")]
    ScheduleExists,
    /// The tenant has as many schedules as it may have.
    #[error("the tenant has {MAX_SCHEDULES} schedules, which is the limit")]
    TooManySchedules,
    /// The program has no jobs of the schedule's kind.
    #[error("the program has no jobs of that kind")]
    NoKind,
    /// The schedule was changed since the client saw it.
    #[error(transparent)]
    Changed(#[from] PreconditionFailed),
    /// A job in this state cannot be treated so.
    #[error("the job is {state}, and {wanted}")]
    State {
        /// Its state.
        state: JobState,
        /// The valid form.
        wanted: &'static str,
    },
    /// Another unfinished job has the unique key of the job.
    #[error("the job {holder} has the same unique key and is not finished")]
    KeyTaken {
        /// That one.
        holder: JobId,
    },
    /// Values of the request are not acceptable.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// The queue does not take the job.
    #[error(transparent)]
    Enqueue(EnqueueError),
    /// It was not recorded in the audit log, so it was not done.
    #[error(transparent)]
    Record(#[from] AuditError),
    /// The database did not do it.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<EnqueueError> for JobsError {
    fn from(error: EnqueueError) -> Self {
        match error {
            EnqueueError::Database(error) => Self::Db(error),
            EnqueueError::Args { problem, .. } => {
                InvalidRequest::fields([("args", problem)]).into()
            }
            EnqueueError::Option { field, problem, .. } => {
                InvalidRequest::fields([(field, problem)]).into()
            }
            error => Self::Enqueue(error),
        }
    }
}

impl From<ScheduleError> for JobsError {
    fn from(error: ScheduleError) -> Self {
        match error {
            ScheduleError::Exists => Self::ScheduleExists,
            ScheduleError::TooMany => Self::TooManySchedules,
            ScheduleError::Database(error) => Self::Db(error),
        }
    }
}

impl ApiError for JobsError {
    const PROBLEMS: &'static [ProblemType] = &[
        NOT_FOUND,
        NO_QUEUE,
        NO_SCHEDULE,
        SCHEDULE_EXISTS,
        TOO_MANY_SCHEDULES,
        NO_KIND,
        STATE,
        KEY_TAKEN,
        TOO_LARGE,
        TOO_MANY,
    ];

    fn into_problem(self) -> Problem {
        let text = self.to_string();
        match self {
            Self::NotFound => NOT_FOUND.problem(),
            Self::NoQueue => NO_QUEUE.problem(),
            Self::NoSchedule => NO_SCHEDULE.problem(),
            Self::ScheduleExists => SCHEDULE_EXISTS.problem().field_error("name", text),
            Self::TooManySchedules => TOO_MANY_SCHEDULES.problem().detail(text),
            Self::NoKind => NO_KIND.problem(),
            Self::Changed(error) => error.into(),
            Self::State { .. } => STATE.problem().detail(text),
            Self::KeyTaken { .. } => KEY_TAKEN.problem().detail(text),
            Self::Invalid(error) => error.into(),
            Self::Enqueue(EnqueueError::TooLarge { .. }) => {
                TOO_LARGE.problem().field_error("args", text)
            }
            Self::Enqueue(EnqueueError::TooManyWaiting { .. }) => {
                TOO_MANY.problem().detail(text).retry_after(RETRY_AFTER)
            }
            Self::Enqueue(error) => DbError::from(error).into(),
            Self::Record(error) => DbError::from(error).into(),
            Self::Db(error) => error.into(),
        }
    }
}
