//! Schedules and their occurrences in the database.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_db::{
    Connection, Db, DbError, OptionalExtension, Querying, TenantId, TenantTx, Tx, on, types::Moment,
};
use tracing::error;

use super::{
    Draft, MAX_SCHEDULES, Occurrence, OccurrenceState, Schedule, ScheduleError, ScheduleId,
    schedule::Row,
    tables::{job_occurrence, job_schedule},
};
use crate::{
    clock::now,
    jobs::{Enqueue as _, EnqueueError, EnqueueOptions, KindSpec, SYSTEM, status::LAST_TENANT},
};

/// How long occurrences are kept.
const OCCURRENCES_KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Occurrences that are deleted by one transaction.
const AT_ONCE: usize = 1000;

/// Makes a schedule of the transaction's tenant. Whether its kind takes its arguments is for the caller to check.
///
/// # Errors
///
/// [`ScheduleError`]; the transaction can do no more then.
pub async fn create_schedule(tx: &mut TenantTx, draft: Draft) -> Result<Schedule, ScheduleError> {
    let tenant = tx.tenant();
    let mine = job_schedule::table.filter(job_schedule::tenant_id.eq(tenant));
    let count: i64 = on!(tx, |c| mine.count().get_result(c).await)?;
    if count >= MAX_SCHEDULES {
        return Err(ScheduleError::TooMany);
    }
    let now = now(tx).await?;
    let schedule = Schedule {
        id: ScheduleId::new(),
        tenant,
        next_at: next_at(&draft, now, now),
        draft,
        anchor: now,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    let insert = diesel::insert_into(job_schedule::table).values(Row::from(&schedule));
    named(on!(tx, |c| insert.execute(c).await))?;
    Ok(schedule)
}

/// Makes `draft` of a schedule, if it is still as `former` says; `None` if it is not. Where the timing changes or the schedule
/// is no longer paused, its next time is after now.
///
/// # Errors
///
/// As [`create_schedule`].
pub async fn replace_schedule(
    tx: &mut TenantTx,
    former: &Schedule,
    draft: Draft,
) -> Result<Option<Schedule>, ScheduleError> {
    let locked = lock(tx, former.id).await?;
    let Some(row) = locked.filter(|row| row.version == former.version) else {
        return Ok(None);
    };
    let now = now(tx).await?;
    let is_retimed = former.draft.timing != draft.timing;
    let anchor = if is_retimed { now } else { former.anchor };
    let goes_on = !is_retimed && !former.draft.is_paused && !draft.is_paused;
    let schedule = Schedule {
        next_at: if goes_on {
            row.next_at
        } else {
            next_at(&draft, anchor, now)
        },
        draft,
        anchor,
        version: former.version + 1,
        updated_at: now,
        ..former.clone()
    };
    let update = diesel::update(job_schedule::table.find(former.id)).set(Row::from(&schedule));
    named(on!(tx, |c| update.execute(c).await))?;
    Ok(Some(schedule))
}

/// The schedule in its row, until the end of the transaction.
async fn lock(tx: &mut TenantTx, id: ScheduleId) -> Result<Option<Row>, DbError> {
    let query = job_schedule::table
        .find(id)
        .filter(job_schedule::tenant_id.eq(tx.tenant()));
    let found = match tx.connection() {
        Connection::Postgres(c) => {
            let query = query.for_update().select(Row::as_select());
            query.first(&mut **c).await
        }
        // The transaction has the only write lock there is.
        Connection::Sqlite(c) => query.select(Row::as_select()).first(&mut **c).await,
    };
    tx.classified(found).optional()
}

/// When a schedule is due for the first time after now.
fn next_at(draft: &Draft, anchor: Moment, now: Moment) -> Option<Moment> {
    let next = draft.timing.next(anchor, now);
    next.filter(|_| !draft.is_paused)
}

/// Distinguishes a duplicate name from other errors.
fn named(done: Result<usize, DbError>) -> Result<usize, ScheduleError> {
    done.map_err(|error| match error.is_unique_violation() {
        true => ScheduleError::Exists,
        false => error.into(),
    })
}

/// The schedule, if its timing can still be read.
pub(super) fn readable(row: Row) -> Option<Schedule> {
    let id = row.id;
    let schedule = row.into_schedule();
    if let Err(problem) = &schedule {
        error!(schedule.id = %id, error = problem as &dyn std::error::Error, "the timing of a schedule cannot be read");
    }
    schedule.ok()
}

/// The schedule of that id, if it is of the transaction's tenant.
///
/// # Errors
///
/// [`DbError`].
pub async fn find_schedule(tx: &mut TenantTx, id: ScheduleId) -> Result<Option<Schedule>, DbError> {
    let query = job_schedule::table
        .find(id)
        .filter(job_schedule::tenant_id.eq(tx.tenant()));
    let row: Option<Row> = on!(tx, |c| {
        let query = query.select(Row::as_select());
        query.first(c).await
    })
    .optional()?;
    Ok(row.and_then(readable))
}

/// The schedule of that id, whosever it is. For a scope of the system.
///
/// # Errors
///
/// [`DbError`].
pub async fn find_any_schedule(
    c: &mut Connection,
    id: ScheduleId,
) -> Result<Option<Schedule>, DbError> {
    let query = job_schedule::table.find(id);
    let row: Option<Row> = on!(c, |c| {
        let query = query.select(Row::as_select());
        query.first(c).await
    })
    .optional()?;
    Ok(row.and_then(readable))
}

/// At most `limit` schedules of the transaction's tenant, the newest first, behind `after`.
///
/// # Errors
///
/// [`DbError`].
pub async fn list_schedules(
    tx: &mut TenantTx,
    after: Option<ScheduleId>,
    limit: i64,
) -> Result<Vec<Schedule>, DbError> {
    let tenant = tx.tenant();
    select(tx, (tenant, tenant), after, limit).await
}

/// The same of all tenants. For a scope of the system.
///
/// # Errors
///
/// [`DbError`].
pub async fn list_all_schedules(
    c: &mut Connection,
    after: Option<ScheduleId>,
    limit: i64,
) -> Result<Vec<Schedule>, DbError> {
    select(c, (SYSTEM, LAST_TENANT), after, limit).await
}

async fn select(
    c: &mut Connection,
    (first, last): (TenantId, TenantId),
    after: Option<ScheduleId>,
    limit: i64,
) -> Result<Vec<Schedule>, DbError> {
    let before = after.unwrap_or(ScheduleId::from_uuid(uuid::Uuid::max()));
    let query = job_schedule::table
        .filter(job_schedule::tenant_id.ge(first))
        .filter(job_schedule::tenant_id.le(last))
        .filter(job_schedule::id.lt(before))
        .order(job_schedule::id.desc())
        .limit(limit);
    let rows: Vec<Row> = on!(c, |c| {
        let query = query.select(Row::as_select());
        query.load(c).await
    })?;
    Ok(rows.into_iter().filter_map(readable).collect())
}

/// Takes a schedule away with its occurrences, if it is still in that version; its jobs stay. False if it is not.
///
/// # Errors
///
/// [`DbError`].
pub async fn delete_schedule(
    tx: &mut TenantTx,
    id: ScheduleId,
    version: i64,
) -> Result<bool, DbError> {
    let mine = job_schedule::table
        .find(id)
        .filter(job_schedule::tenant_id.eq(tx.tenant()))
        .filter(job_schedule::version.eq(version));
    Ok(on!(tx, |c| diesel::delete(mine).execute(c).await)? > 0)
}

/// At most `limit` occurrences of a schedule of the transaction's tenant, the newest first, behind the one that was due at
/// `after`.
///
/// # Errors
///
/// [`DbError`].
pub async fn list_occurrences(
    tx: &mut TenantTx,
    id: ScheduleId,
    after: Option<Moment>,
    limit: i64,
) -> Result<Vec<Occurrence>, DbError> {
    let query = job_occurrence::table
        .filter(job_occurrence::schedule_id.eq(id))
        .filter(job_occurrence::tenant_id.eq(tx.tenant()))
        .filter(job_occurrence::due_at.lt(after.unwrap_or(Moment::LAST)))
        .order(job_occurrence::due_at.desc())
        .limit(limit);
    on!(tx, |c| {
        let query = query.select(Occurrence::as_select());
        query.load(c).await
    })
}

/// Enqueues a job of a schedule now, paused or not, independent of its next time.
///
/// # Errors
///
/// [`EnqueueError`]; the transaction is rolled back then.
pub async fn trigger_schedule(
    tx: &mut TenantTx,
    schedule: &Schedule,
    kind: &KindSpec,
) -> Result<Occurrence, EnqueueError> {
    let options = EnqueueOptions::new();
    let enqueued = tx.enqueue_args(kind, &schedule.draft.args, options).await?;
    let now = now(tx).await?;
    let occurrence = Occurrence {
        job_id: Some(enqueued.id()),
        ..Occurrence::new(schedule, now, OccurrenceState::Triggered)
    };
    let insert = diesel::insert_into(job_occurrence::table).values(occurrence.clone());
    on!(tx, |c| insert.execute(c).await)?;
    Ok(occurrence)
}

/// Takes away occurrences that were due longer than 30 days ago, as of `now`.
pub(in crate::jobs) async fn forget_occurrences(db: &Db, now: Moment) -> Result<(), DbError> {
    let before = now - OCCURRENCES_KEPT;
    loop {
        let delete = async move |tx: &mut Tx| {
            let query = diesel::sql_query(format!(
                "DELETE FROM job_occurrence WHERE due_at IN (SELECT due_at FROM job_occurrence WHERE due_at < $1 \
                 ORDER BY due_at LIMIT {AT_ONCE})"
            ));
            let query = query.bind::<diesel::sql_types::Timestamp, _>(before);
            on!(tx, |c| query.execute(c).await)
        };
        if db.transaction("delete old occurrences", delete).await? < AT_ONCE {
            return Ok(());
        }
    }
}
