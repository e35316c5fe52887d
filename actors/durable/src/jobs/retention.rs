//! How long finished jobs are kept.

use std::{collections::HashSet, sync::Arc, time::Duration};

use chrono::DateTime;
use diesel::{
    dsl::sql,
    prelude::*,
    sql_query,
    sql_types::{Bool, Timestamp},
};
use diesel_async::RunQueryDsl;
use dotmac_db::{Db, DbError, ModuleDb, Tx, on, types::Moment};
use dotmac_supervision::{Schedule, WorkerSpec};

use super::{
    JobId, schedules,
    tables::{job, job_key},
};

/// How often old jobs are taken away.
const INTERVAL: Duration = Duration::from_secs(300);
/// Jobs that one transaction checks, and unique keys that it deletes.
const AT_ONCE: i64 = 1000;

/// How long finished jobs are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Those that are completed or cancelled. 24 h.
    pub completed: Duration,
    /// Those that are failed or parked. 30 d.
    pub failed: Duration,
}

impl Default for Kept {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 60 * 60);
        Self {
            completed: day,
            failed: 30 * day,
        }
    }
}

/// The worker that takes away jobs that are finished for longer than `keep` says. Any number of instances may run it.
#[must_use]
pub fn retention(name: &'static str, db: &ModuleDb, keep: Kept) -> WorkerSpec {
    let db = Arc::new(db.system("delete expired jobs"));
    WorkerSpec::new(name, Schedule::Every(INTERVAL), move |_| {
        let db = Arc::clone(&db);
        async move { maintain(&db, Moment::now(), keep).await.map(drop) }
    })
}

/// Takes away what is finished for longer than `keep` says, as of `now`, and whose unique key holds no more; how many jobs. `db` has the scope of the system.
///
/// # Errors
///
/// [`DbError`]; what was done stays done.
pub async fn maintain(db: &Db, now: Moment, keep: Kept) -> Result<usize, DbError> {
    let mut deleted = 0;
    for (states, before) in [
        ("'completed', 'cancelled'", now - keep.completed),
        ("'failed', 'parked'", now - keep.failed),
    ] {
        let mut after = None;
        loop {
            let delete = async move |tx: &mut Tx| delete_some(tx, states, before, now, after).await;
            let gone = db.transaction("delete old jobs", delete).await?;
            deleted += gone.jobs;
            after = gone.next;
            if after.is_none() {
                break;
            }
        }
    }
    loop {
        let delete = async move |tx: &mut Tx| delete_keys(tx, now).await;
        if db.transaction("delete old unique keys", delete).await? < AT_ONCE {
            break;
        }
    }
    schedules::forget_occurrences(db, now).await?;
    Ok(deleted)
}

/// What one transaction has taken away.
struct Gone {
    jobs: usize,
    /// The last job that it has looked at, if there are more.
    next: Option<(Moment, JobId)>,
}

/// Deletes those of the next jobs behind `after` in these states, finished before `before`, whose unique key does not hold
/// any more: a caller who asks for the key is answered with its job.
async fn delete_some(
    tx: &mut Tx,
    states: &'static str,
    before: Moment,
    now: Moment,
    after: Option<(Moment, JobId)>,
) -> Result<Gone, DbError> {
    let is_old = sql::<Bool>(&format!("state IN ({states})")).and(job::finished_at.lt(before));
    let beginning = (
        Moment::from(DateTime::UNIX_EPOCH),
        JobId::from_uuid(uuid::Uuid::nil()),
    );
    let (at, id) = after.unwrap_or(beginning);
    let is_next = job::finished_at.gt(at).or(job::id.gt(id));
    let query = job::table
        .filter(is_old.and(job::finished_at.ge(at)).and(is_next))
        .order((job::finished_at, job::id))
        .limit(AT_ONCE)
        .select((job::finished_at.assume_not_null(), job::id));
    let found: Vec<(Moment, JobId)> = on!(tx, |c| query.load(c).await)?;
    let mut ids: Vec<_> = found.iter().map(|(_, id)| *id).collect();
    let query = job_key::table
        .filter(job_key::job_id.eq_any(ids.clone()))
        .filter(job_key::holds_until.ge(now))
        .select(job_key::job_id);
    let kept: HashSet<JobId> = on!(tx, |c| query.load::<JobId>(c).await)?
        .into_iter()
        .collect();
    ids.retain(|id| !kept.contains(id));
    // One that was retried meanwhile is not finished.
    let old = job::table
        .filter(job::id.eq_any(ids))
        .filter(sql::<Bool>(&format!("state IN ({states})")));
    let jobs = on!(tx, |c| diesel::delete(old).execute(c).await)?;
    let is_last = i64::try_from(found.len()).unwrap_or(0) < AT_ONCE;
    Ok(Gone {
        jobs,
        next: found.last().copied().filter(|_| !is_last),
    })
}

/// Deletes some unique keys that hold no more; how many.
async fn delete_keys(tx: &mut Tx, now: Moment) -> Result<i64, DbError> {
    // The conditions are repeated, since a job may take a key while this waits for it.
    let is_over = "holds_until < $1 AND NOT EXISTS (SELECT 1 FROM job \
                   WHERE job.id = job_unique.job_id AND job.finished_at IS NULL)";
    let query = sql_query(format!(
        "DELETE FROM job_unique WHERE {is_over} AND (tenant_id, kind, key) IN \
         (SELECT tenant_id, kind, key FROM job_unique WHERE {} ORDER BY holds_until LIMIT {AT_ONCE})",
        is_over.replace("$1", "$2"),
    ));
    let query = query.bind::<Timestamp, _>(now).bind::<Timestamp, _>(now);
    let gone = on!(tx, |c| query.execute(c).await)?;
    Ok(i64::try_from(gone).unwrap_or(0))
}
