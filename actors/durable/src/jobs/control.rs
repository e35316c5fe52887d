//! What is done with a job from outside: cancelled, tried again, run now; and with a queue: paused, resumed.

use diesel::{
    dsl::{exists, sql},
    prelude::*,
    sql_query,
    sql_types::Bool,
};
use diesel_async::RunQueryDsl;
use dotmac_db::{
    DbError, OptionalExtension, TenantId, Tx, on,
    types::{Moment, sql::Uuid},
};

use super::{
    JobId, JobState, SYSTEM, arrival,
    tables::{job, job_queue},
    unique,
};
use crate::wake;

/// What became of what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acted {
    /// It is so, and the job has this state. A running job that is cancelled is `running` until its handler ends.
    Done(JobState),
    /// A job in this state cannot be treated so.
    Refused(JobState),
    /// This job, which is not finished, has its unique key.
    KeyTaken(JobId),
    /// The transaction's tenant has no such job.
    Unknown,
}

/// Jobs that wait for a time or a worker.
const IS_WAITING: &str = "state IN ('scheduled', 'ready', 'retrying')";

/// Has a job not be done, or not be tried again. One that runs sees it and is given up after 10 s.
///
/// # Errors
///
/// [`DbError`].
pub async fn cancel(tx: &mut Tx, id: JobId) -> Result<Acted, DbError> {
    let waiting = this(tx, id).filter(sql::<Bool>(IS_WAITING));
    let done = diesel::update(waiting).set((
        job::state.eq(JobState::Cancelled),
        job::finished_at.eq(Moment::now()),
    ));
    if on!(tx, |c| done.execute(c).await)? > 0 {
        return Ok(Acted::Done(JobState::Cancelled));
    }
    let running = this(tx, id).filter(job::state.eq(JobState::Running));
    let noted = diesel::update(running).set(job::cancels.eq(true));
    if on!(tx, |c| noted.execute(c).await)? > 0 {
        return Ok(Acted::Done(JobState::Running));
    }
    refused(tx, id).await
}

/// Jobs that a retry may take up.
const IS_OVER: &str = "state IN ('failed', 'cancelled', 'parked')";

/// Has a job that is `failed`, `cancelled` or `parked` done after all, with at least one more attempt. It takes its unique
/// key again, unless another job that is not finished has it.
///
/// # Errors
///
/// [`DbError`].
pub async fn retry(tx: &mut Tx, id: JobId) -> Result<Acted, DbError> {
    let over = diesel::select(exists(this(tx, id).filter(sql::<Bool>(IS_OVER))));
    if on!(tx, |c| over.get_result(c).await)?
        && let Some(holder) = unique::reserve_again(tx, id).await?
    {
        return Ok(Acted::KeyTaken(holder));
    }
    let is_over = sql::<Bool>(IS_OVER);
    let one_more = sql::<diesel::sql_types::Integer>(
        "CASE WHEN attempt < max_attempts THEN max_attempts ELSE attempt + 1 END",
    );
    let again = diesel::update(this(tx, id).filter(is_over)).set((
        job::state.eq(JobState::Ready),
        job::run_at.eq(Moment::now()),
        job::max_attempts.eq(one_more),
        job::crashes.eq(0),
        job::cancels.eq(false),
        job::finished_at.eq(None::<Moment>),
    ));
    let kind = on!(tx, |c| again.returning(job::kind).get_result(c).await);
    made_ready(tx, id, kind.optional()?).await
}

/// Has a job done at once that is `scheduled` or `retrying`.
///
/// # Errors
///
/// [`DbError`].
pub async fn run_now(tx: &mut Tx, id: JobId) -> Result<Acted, DbError> {
    let waits = this(tx, id).filter(sql::<Bool>("state IN ('scheduled', 'retrying')"));
    let now = diesel::update(waits).set((
        job::state.eq(JobState::Ready),
        job::run_at.eq(Moment::now()),
    ));
    let kind = on!(tx, |c| now.returning(job::kind).get_result(c).await);
    made_ready(tx, id, kind.optional()?).await
}

async fn made_ready(tx: &mut Tx, id: JobId, kind: Option<String>) -> Result<Acted, DbError> {
    let Some(kind) = kind else {
        return refused(tx, id).await;
    };
    let xid = arrival::xid(tx);
    let noted = sql_query(format!("UPDATE job SET ready_xid = {xid} WHERE id = $1"));
    let noted = noted.bind::<Uuid, _>(id);
    on!(tx, |c| noted.execute(c).await)?;
    tx.after_commit(move || wake::wake(&[&kind]));
    Ok(Acted::Done(JobState::Ready))
}

async fn refused(tx: &mut Tx, id: JobId) -> Result<Acted, DbError> {
    let query = this(tx, id).select(job::state);
    let state: Option<JobState> = on!(tx, |c| query.first(c).await).optional()?;
    Ok(state.map_or(Acted::Unknown, Acted::Refused))
}

type This = diesel::dsl::Filter<
    job::table,
    diesel::dsl::And<
        diesel::dsl::Eq<job::id, JobId>,
        diesel::dsl::And<
            diesel::dsl::Ge<job::tenant_id, TenantId>,
            diesel::dsl::Le<job::tenant_id, TenantId>,
        >,
    >,
>;

/// The job, if it is of the transaction's tenant; of any, for a transaction of the system.
fn this(tx: &Tx, id: JobId) -> This {
    let (first, last) = match tx.tenant() {
        Some(tenant) => (tenant, tenant),
        None => (SYSTEM, TenantId::from_uuid(uuid::Uuid::max())),
    };
    let is_of = job::tenant_id.ge(first).and(job::tenant_id.le(last));
    job::table.filter(job::id.eq(id).and(is_of))
}

/// Has no more jobs of the queue begin, on any instance; those that run go on. False if there is no such queue.
///
/// # Errors
///
/// [`DbError`].
pub async fn pause(tx: &mut Tx, queue: &str) -> Result<bool, DbError> {
    set_paused(tx, queue, Some(Moment::now())).await
}

/// Has jobs of the queue begin again. False if there is no such queue.
///
/// # Errors
///
/// [`DbError`].
pub async fn resume(tx: &mut Tx, queue: &str) -> Result<bool, DbError> {
    set_paused(tx, queue, None).await
}

async fn set_paused(tx: &mut Tx, queue: &str, at: Option<Moment>) -> Result<bool, DbError> {
    let row = job_queue::table.find(queue.to_owned());
    let set = diesel::update(row).set(job_queue::paused_at.eq(at));
    Ok(on!(tx, |c| set.execute(c).await)? > 0)
}
