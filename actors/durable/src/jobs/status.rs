//! What jobs there are, and how they do.

use std::collections::HashMap;

use diesel::{prelude::*, sql_types::Bool};
use diesel_async::RunQueryDsl;
use dotmac_db::{
    Connection, DbError, OptionalExtension, TenantId, TenantTx, on,
    types::{Json, Moment},
};
use serde::Serialize;
use serde_json::Value;

use super::{
    JobId, JobState, SYSTEM,
    tables::{job, job_attempt, job_payload, job_progress, job_result},
};

/// A job as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct StoredJob {
    /// Its id.
    pub id: JobId,
    /// Whose it is; `None` for the system's.
    #[serde(skip)]
    pub tenant: Option<TenantId>,
    /// Its kind.
    pub kind: String,
    /// Its queue.
    pub queue: String,
    /// Its state.
    pub state: JobState,
    /// Lower numbers first.
    pub priority: i32,
    /// Attempts that were begun.
    pub attempt: i32,
    /// Attempts that are made.
    pub max_attempts: i32,
    /// How often it was running when its process ended, in a row.
    pub crashes: i32,
    /// When it is due, or was.
    pub run_at: Moment,
    /// When it was enqueued.
    pub created_at: Moment,
    /// When its last attempt began.
    pub started_at: Option<Moment>,
    /// When it was finished.
    pub finished_at: Option<Moment>,
    /// How far its last attempt came, if that was said.
    pub progress: Option<Progress>,
    /// What it resulted in.
    pub result: Option<Value>,
    /// What its last unsuccessful attempt ended with.
    pub last_error: Option<LastError>,
    /// The trace in which it was enqueued.
    pub trace_id: Option<String>,
}

/// How far a job has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// So many parts,
    pub done: i64,
    /// of so many, if that is known.
    pub total: Option<i64>,
    /// What it is at.
    pub message: String,
}

/// What an attempt ended with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LastError {
    /// A word.
    pub code: String,
    /// The error and its causes.
    pub message: String,
    /// When.
    pub at: Moment,
}

/// An attempt that did not succeed.
#[derive(Clone, Debug, Queryable, Selectable, Serialize)]
#[diesel(table_name = job_attempt)]
pub struct Attempt {
    /// Its number.
    pub attempt: i32,
    /// Its lease.
    pub lease: i64,
    /// A word for how it ended.
    pub code: String,
    /// The error and its causes.
    pub message: String,
    /// When it began.
    pub started_at: Option<Moment>,
    /// When it ended.
    pub ended_at: Moment,
}

/// Which jobs.
#[derive(Clone, Debug, Default)]
pub struct JobFilter {
    /// In this state.
    pub state: Option<JobState>,
    /// Of this kind.
    pub kind: Option<String>,
    /// Of this queue.
    pub queue: Option<String>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = job)]
struct Row {
    id: JobId,
    tenant_id: TenantId,
    kind: String,
    queue: String,
    state: JobState,
    priority: i32,
    attempt: i32,
    max_attempts: i32,
    crashes: i32,
    lease: i64,
    run_at: Moment,
    created_at: Moment,
    started_at: Option<Moment>,
    finished_at: Option<Moment>,
}

/// At most `limit` jobs of the transaction's tenant, the newest first, behind `after`.
///
/// # Errors
///
/// [`DbError`].
pub async fn list(
    tx: &mut TenantTx,
    filter: &JobFilter,
    after: Option<JobId>,
    limit: i64,
) -> Result<Vec<StoredJob>, DbError> {
    let tenant = tx.tenant();
    select(tx, (tenant, tenant), filter, after, limit).await
}

/// The same of all tenants. For a scope of the system.
///
/// # Errors
///
/// [`DbError`].
pub async fn list_all(
    c: &mut Connection,
    filter: &JobFilter,
    after: Option<JobId>,
    limit: i64,
) -> Result<Vec<StoredJob>, DbError> {
    select(c, (SYSTEM, LAST_TENANT), filter, after, limit).await
}

pub(super) const LAST_TENANT: TenantId = TenantId::from_uuid(uuid::Uuid::max());

async fn select(
    c: &mut Connection,
    (first, last): (TenantId, TenantId),
    filter: &JobFilter,
    after: Option<JobId>,
    limit: i64,
) -> Result<Vec<StoredJob>, DbError> {
    let is_any = |given: bool| (!given).into_sql::<Bool>();
    let state =
        is_any(filter.state.is_some()).or(job::state.eq(filter.state.unwrap_or(JobState::Ready)));
    let kind =
        is_any(filter.kind.is_some()).or(job::kind.eq(filter.kind.clone().unwrap_or_default()));
    let queue =
        is_any(filter.queue.is_some()).or(job::queue.eq(filter.queue.clone().unwrap_or_default()));
    let before = after.unwrap_or(JobId::from_uuid(uuid::Uuid::max()));
    let query = job::table
        .filter(job::tenant_id.ge(first).and(job::tenant_id.le(last)))
        .filter(job::id.lt(before))
        .filter(state.and(kind).and(queue))
        .order(job::id.desc())
        .limit(limit);
    let rows: Vec<Row> = on!(c, |c| {
        let query = query.select(Row::as_select());
        query.load(c).await
    })?;
    complete(c, rows).await
}

/// The job with that id, if it is of the transaction's tenant.
///
/// # Errors
///
/// [`DbError`].
pub async fn find(tx: &mut TenantTx, id: JobId) -> Result<Option<StoredJob>, DbError> {
    let query = job::table.find(id).filter(job::tenant_id.eq(tx.tenant()));
    let row: Option<Row> = on!(tx, |c| {
        let query = query.select(Row::as_select());
        query.first(c).await
    })
    .optional()?;
    let found = complete(tx, row.into_iter().collect()).await?;
    Ok(found.into_iter().next())
}

/// The job with that id, of any tenant. For a scope of the system.
///
/// # Errors
///
/// [`DbError`].
pub async fn find_any(c: &mut Connection, id: JobId) -> Result<Option<StoredJob>, DbError> {
    let query = job::table.find(id);
    let row: Option<Row> = on!(c, |c| {
        let query = query.select(Row::as_select());
        query.first(c).await
    })
    .optional()?;
    let found = complete(c, row.into_iter().collect()).await?;
    Ok(found.into_iter().next())
}

/// The arguments of a job, as they are: to be shown through [`redact`](super::redact). `None` if the transaction's tenant
/// has no such job.
///
/// # Errors
///
/// [`DbError`].
pub async fn args(tx: &mut TenantTx, id: JobId) -> Result<Option<Value>, DbError> {
    let query = job_payload::table
        .find(id)
        .filter(job_payload::tenant_id.eq(tx.tenant()))
        .select(job_payload::args);
    let args: Option<Json<Value>> = on!(tx, |c| query.first(c).await).optional()?;
    Ok(args.map(|args| args.0))
}

/// The last 100 unsuccessful attempts of a job of the transaction's tenant, in order.
///
/// # Errors
///
/// [`DbError`].
pub async fn attempts(tx: &mut TenantTx, id: JobId) -> Result<Vec<Attempt>, DbError> {
    let query = job_attempt::table
        .filter(job_attempt::job_id.eq(id))
        .filter(job_attempt::tenant_id.eq(tx.tenant()))
        .order(job_attempt::lease.desc())
        .limit(100);
    let mut attempts: Vec<Attempt> = on!(tx, |c| {
        let query = query.select(Attempt::as_select());
        query.load(c).await
    })?;
    attempts.reverse();
    Ok(attempts)
}

/// Adds what other tables have of the jobs.
async fn complete(c: &mut Connection, rows: Vec<Row>) -> Result<Vec<StoredJob>, DbError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    let traces = job_payload::table
        .filter(job_payload::job_id.eq_any(ids.clone()))
        .select((job_payload::job_id, job_payload::traceparent));
    let traces: Vec<(JobId, Option<String>)> = on!(c, |c| traces.load(c).await)?;
    let results = job_result::table
        .filter(job_result::job_id.eq_any(ids.clone()))
        .select((job_result::job_id, job_result::result));
    let results: Vec<(JobId, Json<Value>)> = on!(c, |c| results.load(c).await)?;
    let progress = job_progress::table
        .filter(job_progress::job_id.eq_any(ids.clone()))
        .select((
            (job_progress::job_id, job_progress::lease),
            (
                job_progress::done,
                job_progress::total,
                job_progress::message,
            ),
        ));
    type Come = ((JobId, i64), (i64, Option<i64>, String));
    let progress: Vec<Come> = on!(c, |c| progress.load(c).await)?;
    let errors = job_attempt::table
        .filter(job_attempt::job_id.eq_any(ids))
        .order(job_attempt::lease)
        .select((
            job_attempt::job_id,
            job_attempt::code,
            job_attempt::message,
            job_attempt::ended_at,
        ));
    let errors: Vec<(JobId, String, String, Moment)> = on!(c, |c| errors.load(c).await)?;

    let mut traces: HashMap<_, _> = traces.into_iter().collect();
    let mut results: HashMap<_, _> = results.into_iter().collect();
    let mut progress: HashMap<_, _> = progress.into_iter().collect();
    let last = |(id, code, message, at)| (id, LastError { code, message, at });
    let mut errors: HashMap<_, _> = errors.into_iter().map(last).collect();
    let jobs = rows.into_iter().map(|row| StoredJob {
        progress: progress
            .remove(&(row.id, row.lease))
            .map(|(done, total, message)| Progress {
                done,
                total,
                message,
            }),
        result: results.remove(&row.id).map(|result| result.0),
        last_error: errors.remove(&row.id),
        trace_id: traces.remove(&row.id).flatten().and_then(trace_id),
        id: row.id,
        tenant: Some(row.tenant_id).filter(|tenant| *tenant != SYSTEM),
        kind: row.kind,
        queue: row.queue,
        state: row.state,
        priority: row.priority,
        attempt: row.attempt,
        max_attempts: row.max_attempts,
        crashes: row.crashes,
        run_at: row.run_at,
        created_at: row.created_at,
        started_at: row.started_at,
        finished_at: row.finished_at,
    });
    Ok(jobs.collect())
}

fn trace_id(traceparent: String) -> Option<String> {
    traceparent.split('-').nth(1).map(ToOwned::to_owned)
}
