//! How many jobs there are, and which queues.

use diesel::{
    prelude::*,
    sql_query,
    sql_types::{BigInt, Nullable, Text, Timestamp},
};
use diesel_async::RunQueryDsl;
use dotmac_db::{
    Connection, DbError, OptionalExtension, TenantId, TenantTx, on,
    types::{Moment, sql::Uuid},
};
use serde::Serialize;

use super::{
    JobId, JobState, SYSTEM,
    status::LAST_TENANT,
    tables::{job, job_queue},
    waiting::IS_UNFINISHED,
};
use crate::clock::{between, now};

/// How the jobs of a tenant do.
#[derive(Clone, Debug, Serialize)]
pub struct Stats {
    /// By kind and queue; without those of which all jobs are completed or cancelled.
    pub kinds: Vec<KindStats>,
}

/// How the jobs of one kind and queue do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KindStats {
    /// The kind.
    pub kind: String,
    /// The queue.
    pub queue: String,
    /// How many wait for their time.
    pub scheduled: i64,
    /// How many wait for a worker.
    pub ready: i64,
    /// How many run.
    pub running: i64,
    /// How many wait for another attempt.
    pub retrying: i64,
    /// How many have failed, and are kept.
    pub failed: i64,
    /// How many are parked.
    pub parked: i64,
    /// How long the oldest ready job has waited, in seconds.
    pub oldest_ready_seconds: i64,
}

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Text)]
    queue: String,
    #[diesel(sql_type = Text)]
    state: JobState,
    #[diesel(sql_type = BigInt)]
    number: i64,
    #[diesel(sql_type = Nullable<Timestamp>)]
    oldest: Option<Moment>,
}

/// How the jobs of the transaction's tenant do.
///
/// # Errors
///
/// [`DbError`].
pub async fn stats(tx: &mut TenantTx) -> Result<Stats, DbError> {
    let tenant = tx.tenant();
    count(tx, (tenant, tenant)).await
}

/// The same for all tenants. For a scope of the system.
///
/// # Errors
///
/// [`DbError`].
pub async fn stats_of_all(c: &mut Connection) -> Result<Stats, DbError> {
    count(c, (SYSTEM, LAST_TENANT)).await
}

async fn count(c: &mut Connection, (first, last): (TenantId, TenantId)) -> Result<Stats, DbError> {
    let now = now(c).await?;
    let of = |condition: &str| {
        format!(
            "SELECT kind, queue, state, count(*) AS number, min(run_at) AS oldest FROM job \
             WHERE tenant_id >= $1 AND tenant_id <= $2 AND {condition} GROUP BY kind, queue, state"
        )
    };
    let query = sql_query(format!(
        "{} UNION ALL {} UNION ALL {}",
        of(IS_UNFINISHED),
        of("state = 'running'"),
        of("state IN ('failed', 'parked')"),
    ));
    let query = query.bind::<Uuid, _>(first).bind::<Uuid, _>(last);
    let rows: Vec<Counted> = on!(c, |c| query.load(c).await)?;
    let mut kinds: Vec<KindStats> = Vec::new();
    for row in rows {
        let same = |it: &KindStats| it.kind == row.kind && it.queue == row.queue;
        let at = kinds.iter().position(same).unwrap_or_else(|| {
            kinds.push(KindStats {
                kind: row.kind.clone(),
                queue: row.queue.clone(),
                ..KindStats::default()
            });
            kinds.len() - 1
        });
        let Some(stats) = kinds.get_mut(at) else {
            continue;
        };
        match row.state {
            JobState::Scheduled => stats.scheduled = row.number,
            JobState::Ready => {
                stats.ready = row.number;
                let age = row
                    .oldest
                    .map_or(0, |oldest| between(oldest, now).as_secs());
                stats.oldest_ready_seconds = i64::try_from(age).unwrap_or(i64::MAX);
            }
            JobState::Running => stats.running = row.number,
            JobState::Retrying => stats.retrying = row.number,
            JobState::Failed => stats.failed = row.number,
            JobState::Parked => stats.parked = row.number,
            JobState::Completed | JobState::Cancelled => {}
        }
    }
    kinds.sort_by(|a, b| (&a.kind, &a.queue).cmp(&(&b.kind, &b.queue)));
    Ok(Stats { kinds })
}

/// The job of the kind and queue that has been ready for longest, of all tenants. For a scope of the system.
///
/// # Errors
///
/// [`DbError`].
pub async fn oldest_ready(
    c: &mut Connection,
    kind: &str,
    queue: &str,
) -> Result<Option<JobId>, DbError> {
    let query = job::table
        .filter(job::state.eq(JobState::Ready))
        .filter(job::queue.eq(queue.to_owned()))
        .filter(job::kind.eq(kind.to_owned()))
        .order((job::run_at, job::id))
        .select(job::id);
    on!(c, |c| query.first(c).await).optional()
}

/// A queue.
#[derive(Clone, Debug, Queryable, Serialize)]
pub struct QueueStatus {
    /// Its name.
    pub name: String,
    /// Since when no job of it begins.
    pub paused_at: Option<Moment>,
}

/// All queues in which there have been jobs.
///
/// # Errors
///
/// [`DbError`].
pub async fn queues(c: &mut Connection) -> Result<Vec<QueueStatus>, DbError> {
    let query = job_queue::table
        .order(job_queue::name)
        .select((job_queue::name, job_queue::paused_at));
    on!(c, |c| query.load(c).await)
}
