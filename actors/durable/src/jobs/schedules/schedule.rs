//! What a schedule is.

use std::time::Duration;

use diesel::prelude::*;
use dotmac_db::{
    DbError, TenantId,
    types::{Id, Json, Moment},
    words,
};
use serde_json::Value;

use super::{
    Missed, Timing, TimingError,
    tables::{job_occurrence, job_schedule},
};
use crate::jobs::JobId;

/// The longest name of a schedule, in characters.
pub const MAX_SCHEDULE_NAME: usize = 100;
/// The most schedules of a tenant. Transactions at the same time may exceed it by their number.
pub const MAX_SCHEDULES: i64 = 1000;

/// The id of a schedule: a UUID of version 7.
pub type ScheduleId = Id<Schedule>;

/// A schedule as its creator gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// Of the schedules of its tenant no other has it.
    pub name: String,
    /// The kind of its jobs.
    pub kind: String,
    /// Their arguments.
    pub args: Value,
    /// When it is due.
    pub timing: Timing,
    /// What becomes of occurrences at which no instance was there.
    pub missed: Missed,
    /// How late an occurrence may be enqueued where missed ones are skipped, in whole seconds.
    pub grace: Duration,
    /// Whether it is held.
    pub is_paused: bool,
}

/// A schedule.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Its id.
    pub id: ScheduleId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What was said of it.
    pub draft: Draft,
    /// What its interval is counted from.
    pub anchor: Moment,
    /// When it is due next; `None` while it is paused.
    pub next_at: Option<Moment>,
    /// Grows with each change.
    pub version: i64,
    /// When it was made.
    pub created_at: Moment,
    /// When it was changed last.
    pub updated_at: Moment,
}

/// Why a schedule was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// The tenant has one of that name.
    #[error("a schedule with that name exists")]
    Exists,
    /// The tenant has as many as it may have.
    #[error("the tenant has {MAX_SCHEDULES} schedules, which is the limit")]
    TooMany,
    /// The database did not do it.
    #[error(transparent)]
    Database(#[from] DbError),
}

/// A schedule as it is in its table.
#[derive(Clone, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = job_schedule, treat_none_as_null = true, treat_none_as_default_value = false)]
pub(super) struct Row {
    pub(super) id: ScheduleId,
    pub(super) tenant_id: TenantId,
    name: String,
    kind: String,
    args: Json<Value>,
    cron: Option<String>,
    zone: String,
    every_seconds: Option<i64>,
    missed: Missed,
    grace_seconds: i64,
    anchor_at: Moment,
    pub(super) next_at: Option<Moment>,
    paused_at: Option<Moment>,
    pub(super) version: i64,
    created_at: Moment,
    updated_at: Moment,
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

fn lasting(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

impl From<&Schedule> for Row {
    fn from(it: &Schedule) -> Self {
        let draft = &it.draft;
        Self {
            id: it.id,
            tenant_id: it.tenant,
            name: draft.name.clone(),
            kind: draft.kind.clone(),
            args: Json(draft.args.clone()),
            cron: draft.timing.line().map(str::to_owned),
            zone: draft.timing.zone().to_owned(),
            every_seconds: draft.timing.interval().map(seconds),
            missed: draft.missed,
            grace_seconds: seconds(draft.grace),
            anchor_at: it.anchor,
            next_at: it.next_at,
            paused_at: draft.is_paused.then_some(it.updated_at),
            version: it.version,
            created_at: it.created_at,
            updated_at: it.updated_at,
        }
    }
}

impl Row {
    /// The schedule.
    ///
    /// # Errors
    ///
    /// [`TimingError`] if its timing is none any more, as of a zone that was removed.
    pub(super) fn into_schedule(self) -> Result<Schedule, TimingError> {
        let timing = match (&self.cron, self.every_seconds) {
            (Some(line), _) => Timing::stored_cron(line, &self.zone)?,
            (None, every) => Timing::every(lasting(every.unwrap_or(0)))?,
        };
        Ok(Schedule {
            id: self.id,
            tenant: self.tenant_id,
            draft: Draft {
                name: self.name,
                kind: self.kind,
                args: self.args.0,
                timing,
                missed: self.missed,
                grace: lasting(self.grace_seconds),
                is_paused: self.paused_at.is_some(),
            },
            anchor: self.anchor_at,
            next_at: self.next_at,
            version: self.version,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}

words! {
    /// What became of an occurrence: its name as in the database and over HTTP.
    pub enum OccurrenceState {
        /// Its job is there.
        Enqueued = "enqueued",
        /// No instance was there in time.
        Missed = "missed",
        /// The queue did not take its job.
        Refused = "refused",
        /// It was asked for, and its job is there.
        Triggered = "triggered",
    }
}

/// A time at which a schedule was due, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = job_occurrence, treat_none_as_default_value = false)]
pub struct Occurrence {
    /// The schedule.
    pub schedule_id: ScheduleId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// When it was due.
    pub due_at: Moment,
    /// What became of it.
    pub state: OccurrenceState,
    /// Its job, if there is one.
    pub job_id: Option<JobId>,
    /// Why the queue did not take its job.
    pub error: Option<String>,
}

impl Occurrence {
    pub(super) fn new(schedule: &Schedule, due_at: Moment, state: OccurrenceState) -> Self {
        Self {
            schedule_id: schedule.id,
            tenant_id: schedule.tenant,
            due_at,
            state,
            job_id: None,
            error: None,
        }
    }
}
