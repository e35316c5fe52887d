//! How attempts end: one guarded statement for many of them.
//!
//! A row is changed only if the job is still `running` under the lease number that the end is of. Each claim raises that
//! number, so an end that comes late changes nothing, regardless of the job's state by then.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use diesel::{
    prelude::*,
    sql_query,
    sql_types::{BigInt, Text, Timestamp},
};
use diesel_async::RunQueryDsl;
use dotmac_db::{
    Connection, DbError, Querying, TenantId, Tx, insert_all, on, prepared, records,
    types::{Moment, sql::Uuid},
};
use serde::Serialize;

use super::{
    JobId, JobState, arrival,
    error::{LeaseLost, MAX_MESSAGE, cut},
    liveness::IDLES_BRIEFLY,
    progress,
    run::Progress,
    tables::{job_attempt, job_result},
};
use crate::{
    clock::{Stamp, now},
    json_text::JsonText,
};

/// The right to change one job, until another gets a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) id: JobId,
    pub(super) tenant: TenantId,
    pub(super) number: i64,
}

/// What an attempt ends with.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) lease: Lease,
    /// The attempt's number.
    pub(super) attempt: i32,
    /// The job's kind, if the end is to be counted.
    pub(super) kind: Option<&'static str>,
    pub(super) state: JobState,
    /// How long the next attempt waits, if there is one.
    pub(super) wait: Option<Duration>,
    /// The attempt does not count.
    pub(super) is_uncounted: bool,
    /// How often the job was running when its process ended; `None` leaves that as it is.
    pub(super) crashes: Option<i32>,
    pub(super) result: Option<String>,
    pub(super) failure: Option<Failure>,
    /// How far it came at last.
    pub(super) progress: Option<Progress>,
}

impl End {
    /// The job gets this state, and nothing else is written.
    pub(super) fn new(lease: Lease, attempt: i32, state: JobState) -> Self {
        Self {
            lease,
            attempt,
            kind: None,
            state,
            wait: None,
            is_uncounted: false,
            crashes: None,
            result: None,
            failure: None,
            progress: None,
        }
    }

    /// The same for an end that the database does not take: the job is failed, and says why.
    pub(super) fn refused(self, error: &DbError) -> Self {
        let message = cut(dotmac_causes::chain(error), MAX_MESSAGE);
        Self {
            kind: self.kind,
            crashes: Some(0),
            failure: Some(Failure {
                code: "end_refused".to_owned(),
                message,
                started_at: None,
            }),
            ..Self::new(self.lease, self.attempt, JobState::Failed)
        }
    }
}

/// An attempt that did not succeed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) started_at: Option<Moment>,
}

/// A row of what the statement is given.
#[derive(Serialize)]
struct Row {
    id: JobId,
    lease: i64,
    state: JobState,
    run_at: Option<Stamp>,
    done_at: Option<Stamp>,
    back: i32,
    crashes: Option<i32>,
}

/// That a job is running, so that its row is found by its id. Otherwise PostgreSQL might read the small index of running
/// jobs, which has an entry of each former claim while vacuum is held back.
const IS_RUNNING: &str = "job.state || '' = 'running'";
/// A job with a requested cancellation is not retried, regardless of its result.
const END: &str = "UPDATE job SET \
     finished_at = CASE WHEN job.cancels AND r.done_at IS NULL THEN $1 ELSE r.done_at END, \
     state = CASE WHEN job.cancels AND r.done_at IS NULL THEN 'cancelled' ELSE r.state END, \
     run_at = COALESCE(r.run_at, job.run_at), \
     attempt = job.attempt - r.back, \
     crashes = COALESCE(r.crashes, job.crashes), \
     worker = NULL";
/// The fields of a [`Row`].
const FIELDS: [(&str, &str); 7] = [
    ("id", "uuid"),
    ("lease", "bigint"),
    ("state", "text"),
    ("run_at", "timestamp"),
    ("done_at", "timestamp"),
    ("back", "integer"),
    ("crashes", "integer"),
];

#[derive(QueryableByName)]
struct ThatJob {
    #[diesel(sql_type = Uuid)]
    id: JobId,
}

/// The lease of a job that is still held.
#[derive(QueryableByName)]
struct Held {
    #[diesel(sql_type = Uuid)]
    id: JobId,
    #[diesel(sql_type = BigInt)]
    lease: i64,
}

#[derive(Clone, Insertable)]
#[diesel(table_name = job_result)]
struct ResultRow {
    job_id: JobId,
    tenant_id: TenantId,
    result: JsonText,
}

#[derive(Clone, Insertable)]
#[diesel(table_name = job_attempt, treat_none_as_default_value = false)]
struct AttemptRow {
    job_id: JobId,
    lease: i64,
    tenant_id: TenantId,
    attempt: i32,
    code: String,
    message: String,
    started_at: Option<Moment>,
    ended_at: Moment,
}

/// Writes the ends of attempts; gives the jobs that were still theirs to end.
pub(super) async fn write(tx: &mut Tx, ends: &[End]) -> Result<Vec<JobId>, DbError> {
    let now = now(tx).await?;
    for end in ends {
        if let Some(progress) = end.progress.clone() {
            progress::write(tx, end.lease, progress, now).await?;
        }
    }
    let rows: Vec<_> = ends
        .iter()
        .map(|end| Row {
            id: end.lease.id,
            lease: end.lease.number,
            state: end.state,
            run_at: end.wait.map(|wait| Stamp((now + wait).min(Moment::LAST))),
            done_at: end.state.is_finished().then_some(Stamp(now)),
            back: i32::from(end.is_uncounted),
            crashes: end.crashes,
        })
        .collect();
    let rows = serde_json::to_string(&rows).unwrap_or_default();
    let given = records::relation(tx.connection(), "$2", &FIELDS);
    let xid = arrival::xid(tx);
    let query = sql_query(format!(
        "{END}, ready_xid = CASE WHEN r.state = 'ready' THEN {xid} ELSE job.ready_xid END FROM {given} \
         WHERE job.id = r.id AND job.lease = r.lease AND {IS_RUNNING} RETURNING job.id"
    ));
    let query = query.bind::<Timestamp, _>(now).bind::<Text, _>(rows);
    let ended: Vec<ThatJob> = on!(tx, |c| query.load(c).await)?;
    let by_id: HashMap<_, _> = ends.iter().map(|end| (end.lease.id, end)).collect();
    let ended: Vec<_> = ended.into_iter().map(|row| row.id).collect();
    let of_ended = || ended.iter().filter_map(|id| by_id.get(id));
    let results: Vec<_> = of_ended()
        .filter_map(|end| {
            Some(ResultRow {
                job_id: end.lease.id,
                tenant_id: end.lease.tenant,
                result: JsonText(end.result.clone()?),
            })
        })
        .collect();
    let attempts: Vec<_> = of_ended()
        .filter_map(|end| {
            let failure = end.failure.clone()?;
            Some(AttemptRow {
                job_id: end.lease.id,
                lease: end.lease.number,
                tenant_id: end.lease.tenant,
                attempt: end.attempt,
                code: failure.code,
                message: failure.message,
                started_at: failure.started_at,
                ended_at: now,
            })
        })
        .collect();
    if !results.is_empty() {
        insert_all!(tx, job_result::table, results)?;
    }
    if !attempts.is_empty() {
        insert_all!(tx, job_attempt::table, attempts)?;
    }
    Ok(ended)
}

/// Completes one job on a transaction of its handler: its effect is committed with it, or neither is.
///
/// # Errors
///
/// [`LeaseLost`], as a [`DbError`], if the job is another's by now.
pub(super) async fn complete(
    tx: &mut Tx,
    (lease, attempt): (Lease, i32),
    result: Option<String>,
) -> Result<(), DbError> {
    let end = End {
        crashes: Some(0),
        result,
        ..End::new(lease, attempt, JobState::Completed)
    };
    let ended = write(tx, &[end]).await?;
    if ended.is_empty() {
        return Err(LeaseLost.into());
    }
    Ok(())
}

/// Keeps the job this worker's until the end of the transaction.
///
/// # Errors
///
/// As [`complete`].
pub(super) async fn hold(tx: &mut Tx, lease: Lease) -> Result<(), DbError> {
    let query = match tx.connection() {
        Connection::Postgres(_) => format!(
            "SELECT job.id FROM job CROSS JOIN {IDLES_BRIEFLY} AS bounded \
             WHERE job.id = $1 AND job.lease = $2 AND {IS_RUNNING} FOR SHARE OF job"
        ),
        // The transaction has the only write lock there is.
        Connection::Sqlite(_) => {
            format!("SELECT id FROM job WHERE id = $1 AND lease = $2 AND {IS_RUNNING}")
        }
    };
    let query = sql_query(query)
        .bind::<Uuid, _>(lease.id)
        .bind::<BigInt, _>(lease.number);
    let held: Vec<ThatJob> = on!(tx, |c| prepared(query).load(c).await)?;
    if held.is_empty() {
        return Err(LeaseLost.into());
    }
    Ok(())
}

/// Keeps those of these jobs until the end of the transaction that are still held; their ids and the numbers of their leases.
pub(super) async fn hold_all(
    tx: &mut Tx,
    leases: &[Lease],
) -> Result<HashSet<(JobId, i64)>, DbError> {
    let wanted = leases.iter();
    let wanted = wanted.map(|it| serde_json::json!({ "id": it.id, "lease": it.number }));
    let wanted = serde_json::Value::Array(wanted.collect()).to_string();
    let given = records::relation(
        tx.connection(),
        "$1",
        &[("id", "uuid"), ("lease", "bigint")],
    );
    let of_given = "ON job.id = r.id AND job.lease = r.lease";
    let query = match tx.connection() {
        Connection::Postgres(_) => format!(
            "SELECT job.id, job.lease FROM {given} JOIN job {of_given} CROSS JOIN {IDLES_BRIEFLY} AS bounded \
             WHERE {IS_RUNNING} ORDER BY job.id FOR SHARE OF job"
        ),
        // The transaction has the only write lock there is.
        Connection::Sqlite(_) => {
            format!("SELECT job.id, job.lease FROM {given} JOIN job {of_given} WHERE {IS_RUNNING}")
        }
    };
    let query = sql_query(query).bind::<Text, _>(wanted);
    let held: Vec<Held> = on!(tx, |c| prepared(query).load(c).await)?;
    Ok(held.into_iter().map(|it| (it.id, it.lease)).collect())
}
