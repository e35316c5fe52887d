//! The queue of jobs: what is to be done after a transaction, at least once, by whichever instance has room for it.
//!
//! A job is a type with its arguments. It is enqueued on a transaction and nowhere else, so it is there if and only if
//! what it is for is:
//!
//! ```no_run
//! use dotmac_db::TenantTx;
//! use dotmac_durable::jobs::{Enqueue, EnqueueError, Job};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Reindex {
//!     folder: u64,
//! }
//!
//! impl Job for Reindex {
//!     const KIND: &'static str = "notes.reindex";
//!     type Output = ();
//! }
//!
//! async fn folder_was_moved(tx: &mut TenantTx, folder: u64) -> Result<(), EnqueueError> {
//!     tx.enqueue(&Reindex { folder }).await?;
//!     Ok(())
//! }
//! ```
//!
//! A connection alone, or the way to the database, cannot enqueue:
//!
//! ```compile_fail,E0599
//! # use dotmac_db::Connection;
//! # use dotmac_durable::jobs::{Enqueue, Job};
//! # #[derive(serde::Serialize, serde::Deserialize)]
//! # struct Reindex;
//! # impl Job for Reindex {
//! #     const KIND: &'static str = "notes.reindex";
//! #     type Output = ();
//! # }
//! async fn without_a_transaction(connection: &mut Connection) {
//!     connection.enqueue(&Reindex).await;
//! }
//! ```
//!
//! # Leases
//!
//! Each claim of a job raises its lease number, and every write of a worker to the job is guarded by it. A worker that
//! comes back late changes nothing, regardless of the job's state. Instances show that they are alive by a row of their
//! own; the jobs of one that does not for 10 s go to others.

mod arrival;
mod bounds;
mod claim;
mod control;
mod due;
mod enqueue;
mod error;
mod handler;
mod kind;
mod liveness;
mod measure;
mod options;
mod progress;
mod retention;
mod retry;
mod run;
mod runner;
mod schedules;
mod settle;
mod state;
mod stats;
mod status;
mod tables;
mod unique;
mod vacuum;
mod waiting;
mod write;

pub use control::{Acted, cancel, pause, resume, retry, run_now};
pub(crate) use enqueue::is_full;
pub use enqueue::{Enqueue, EnqueueError, Enqueued, MAX_JOBS, declare, flush};
pub(crate) use error::cut;
pub use error::{JobError, LeaseLost};
pub use handler::JobHandler;
pub use kind::{
    DEFAULT_QUEUE, Job, JobId, KindSpec, MAX_ARGS, MAX_ATTEMPTS, MAX_RESULT, MAX_SLOTS, Rate,
    Rules, is_job_kind, is_queue_name, redact,
};
pub use options::{EnqueueOptions, MAX_PRIORITY};
pub use retention::{Kept, maintain, retention};
pub use retry::Backoff;
pub use run::{Run, RunLease, hold_all};
pub use runner::{HandlerTwice, Runner, RunnerStatus, SlotsInUse};
pub use schedules::{
    Draft, MAX_RUN_ALL, MAX_SCHEDULE_NAME, MAX_SCHEDULES, Missed, Occurrence, OccurrenceState,
    Schedule, ScheduleError, ScheduleId, Timing, TimingError, create_schedule, delete_schedule,
    find_any_schedule, find_schedule, list_all_schedules, list_occurrences, list_schedules,
    replace_schedule, trigger_schedule,
};
pub use state::JobState;
pub use stats::{KindStats, QueueStatus, Stats, oldest_ready, queues, stats, stats_of_all};
pub use status::{
    Attempt, JobFilter, LastError, Progress, StoredJob, args, attempts, find, find_any, list,
    list_all,
};
pub use vacuum::{VacuumHolder, vacuum_holders};
pub use waiting::MAX_WAITING;

use crate::SYSTEM;
