//! How long finished jobs are kept.

use std::{sync::Arc, time::Duration};

use diesel::{sql_query, sql_types::Timestamp};
use diesel_async::RunQueryDsl;
use dotmac_db::{Db, DbError, ModuleDb, Tx, on, types::Moment};
use dotmac_supervision::{Schedule, WorkerSpec};

use super::schedules;

/// How often old jobs are taken away.
const INTERVAL: Duration = Duration::from_secs(300);
/// Jobs that are deleted by one transaction.
const AT_ONCE: usize = 1000;

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

/// Takes away what is finished for longer than `keep` says, as of `now`; how many jobs. `db` has the scope of the system.
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
        loop {
            let delete = async move |tx: &mut Tx| {
                let query = sql_query(format!(
                    "DELETE FROM job WHERE id IN (SELECT id FROM job WHERE finished_at < $1 AND state IN ({states}) \
                     ORDER BY finished_at LIMIT {AT_ONCE})"
                ));
                let query = query.bind::<Timestamp, _>(before);
                on!(tx, |c| query.execute(c).await)
            };
            let gone = db.transaction("delete old jobs", delete).await?;
            deleted += gone;
            if gone < AT_ONCE {
                break;
            }
        }
    }
    let delete = async move |tx: &mut Tx| {
        let query = sql_query(
            "DELETE FROM job_unique WHERE holds_until < $1 AND NOT EXISTS (SELECT 1 FROM job \
             WHERE job.id = job_unique.job_id AND job.finished_at IS NULL)",
        );
        on!(tx, |c| query.bind::<Timestamp, _>(now).execute(c).await)
    };
    db.transaction("delete old unique keys", delete).await?;
    schedules::forget_occurrences(db, now).await?;
    Ok(deleted)
}
