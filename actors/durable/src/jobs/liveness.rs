//! Which incarnations of programs are alive, and what becomes of the jobs of those that are not.
//!
//! An incarnation is one life of the worker that runs jobs; it has a row that it renews every two seconds. One whose row was not
//! renewed for 10 s counts as crashed: another takes the row away, and its jobs with it. An incarnation that finds its row
//! gone has lost all its leases.
//!
//! A job that was running is *suspect* of having ended the process, and is then run alone among suspects. If the process
//! ends again, the crash counts for the suspect, and not for jobs in parallel with it; with the third crash it is
//! parked.

use std::time::Duration;

use diesel::{
    prelude::*,
    sql_query,
    sql_types::{Nullable, Timestamp},
};
use diesel_async::RunQueryDsl;
use dotmac_db::{
    Connection, Db, DbError, OptionalExtension, Querying, Retry, Tx, on,
    types::{Id, Moment, sql::Uuid},
};
use tracing::{error, warn};

use super::{
    JobId, JobState,
    settle::{self, End, Failure, Lease},
    tables::{job, job_worker},
};
use crate::clock::now;

/// How often an incarnation renews its row.
pub(super) const BEAT: Duration = Duration::from_secs(2);
/// One that has not for this long is taken for crashed.
pub(super) const LOST: Duration = Duration::from_secs(10);
/// One that could not for this long gives up its jobs by itself, before others take them.
pub(super) const GIVE_UP: Duration = Duration::from_secs(8);
/// A job that took the process down so often is parked.
pub(super) const MAX_CRASHES: i32 = 3;

/// Marks the id of an incarnation.
pub(super) enum Incarnation {}

/// The id of one life of the worker that runs jobs.
pub(super) type WorkerId = Id<Incarnation>;

/// What a renewal says.
pub(super) struct Beat {
    /// Jobs of this incarnation whose cancellation was asked for.
    pub(super) cancelled: Vec<(JobId, i64)>,
}

/// Makes the row of an incarnation.
pub(super) async fn begin(db: &Db, me: WorkerId) -> Result<(), DbError> {
    let begin = async move |tx: &mut Tx| {
        let now = now(tx).await?;
        let pid = i32::try_from(std::process::id()).unwrap_or(0);
        let row = (
            job_worker::id.eq(me),
            job_worker::pid.eq(pid),
            job_worker::started_at.eq(now),
            job_worker::beat_at.eq(now),
        );
        let insert = diesel::insert_into(job_worker::table).values(row);
        on!(tx, |c| insert.execute(c).await).map(drop)
    };
    db.transaction("begin to run jobs", begin).await
}

/// Renews the row; `None` if it is gone. `held` are the jobs of the incarnation.
pub(super) async fn beat(db: &Db, me: WorkerId, held: Vec<JobId>) -> Result<Option<Beat>, DbError> {
    let beat = async move |tx: &mut Tx| {
        let now = now(tx).await?;
        let mine = job_worker::table.find(me);
        let renew = diesel::update(mine).set(job_worker::beat_at.eq(now));
        if on!(tx, |c| renew.execute(c).await)? == 0 {
            return Ok(None);
        }
        if held.is_empty() {
            let cancelled = Vec::new();
            return Ok(Some(Beat { cancelled }));
        }
        // By id: past claims of the incarnation stay in the index of its jobs for as long as vacuum is held back.
        let query = job::table
            .filter(job::id.eq_any(held))
            .filter(job::worker.eq(me))
            .filter(job::cancels)
            .select((job::id, job::lease));
        let cancelled = on!(tx, |c| query.load(c).await)?;
        Ok(Some(Beat { cancelled }))
    };
    db.transaction("renew incarnation", beat).await
}

/// Ends a transaction that keeps others from the jobs of this instance, if the instance is frozen in the middle of it: the
/// server would let it idle for as long as the settings of the database say. Sooner than [`LOST`].
pub(super) const IDLES_BRIEFLY: &str =
    "set_config('idle_in_transaction_session_timeout', '8s', true)";

/// Keeps the row until the end of the transaction, so that what it claims is not left behind; the time, or `None` if the row
/// is gone.
pub(super) async fn hold(tx: &mut Tx, me: WorkerId) -> Result<Option<Moment>, DbError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Nullable<Timestamp>)]
        at: Option<Moment>,
    }
    let query = match tx.connection() {
        Connection::Postgres(_) => format!(
            "SELECT clock_timestamp() AT TIME ZONE 'UTC' AS at FROM job_worker CROSS JOIN {IDLES_BRIEFLY} AS bounded \
             WHERE job_worker.id = $1 FOR KEY SHARE OF job_worker"
        ),
        // The transaction has the only write lock there is, and the file is on this machine.
        Connection::Sqlite(_) => "SELECT NULL AS at FROM job_worker WHERE id = $1".to_owned(),
    };
    let query = sql_query(query).bind::<Uuid, _>(me);
    let held: Option<Row> = on!(tx, |c| query.get_result(c).await).optional()?;
    Ok(held.map(|row| row.at.unwrap_or_else(Moment::now)))
}

/// Ends incarnations that have crashed, and gives their jobs to others; how many jobs.
pub(super) async fn rescue(db: &Db) -> Result<usize, DbError> {
    let look = async |tx: &mut Connection| {
        let since = now(tx).await? - LOST;
        let query = job_worker::table
            .filter(job_worker::beat_at.lt(since))
            .select(job_worker::id);
        on!(tx, |c| query.load::<WorkerId>(c).await)
    };
    let mut rescued = 0;
    for lost in db.read("look for crashed incarnations", look).await? {
        rescued += end(db, lost, Why::Crashed).await?;
    }
    Ok(rescued)
}

/// Why an incarnation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It has not renewed its row.
    Crashed,
    /// Its process knows that it is over.
    Stopped,
}

/// Ends one incarnation; how many jobs it had.
pub(super) async fn end(db: &Db, worker: WorkerId, why: Why) -> Result<usize, DbError> {
    let end = async move |tx: &mut Tx| {
        let now = now(tx).await?;
        let late = if why == Why::Crashed {
            now - LOST
        } else {
            Moment::LAST
        };
        let row = job_worker::table
            .filter(job_worker::id.eq(worker))
            .filter(job_worker::beat_at.lt(late));
        if on!(tx, |c| diesel::delete(row).execute(c).await)? == 0 {
            return Ok::<_, DbError>(0);
        }
        let query = job::table
            .filter(job::worker.eq(worker))
            .filter(job::state.eq(JobState::Running))
            .order(job::id);
        let held: Vec<Held> = on!(tx, |c| {
            let query = query.select(Held::as_select());
            query.load(c).await
        })?;
        let has_suspect = held.iter().any(|it| it.crashes > 0);
        let ends: Vec<_> = held
            .iter()
            .map(|it| {
                let counts = why == Why::Crashed && (it.crashes > 0 || !has_suspect);
                it.end(why, i32::from(counts))
            })
            .collect();
        for parked in ends.iter().filter(|end| end.state == JobState::Parked) {
            let id = parked.lease.id;
            error!(job.id = %id, "the job's process ended for the third time while the job ran; the job is parked");
        }
        Ok(settle::write(tx, &ends).await?.len())
    };
    let ended = db.retrying_transaction("end incarnation", Retry::new(), end);
    let jobs = ended.await?;
    if why == Why::Crashed {
        warn!(worker = %worker, jobs, "an instance that ran jobs has ended; its {jobs} jobs go to other instances");
    }
    Ok(jobs)
}

/// A job that an incarnation had when it ended.
#[derive(Queryable, Selectable)]
#[diesel(table_name = job)]
struct Held {
    id: JobId,
    tenant_id: dotmac_db::TenantId,
    lease: i64,
    attempt: i32,
    crashes: i32,
    started_at: Option<Moment>,
}

impl Held {
    /// Its attempt does not count: it did not fail.
    fn end(&self, why: Why, crash: i32) -> End {
        let crashes = self.crashes + crash;
        let is_poison = crashes >= MAX_CRASHES;
        let failure = (why == Why::Crashed).then(|| Failure {
            code: "crashed".to_owned(),
            message: "the instance that ran the job has ended".to_owned(),
            started_at: self.started_at,
        });
        let lease = Lease {
            id: self.id,
            tenant: self.tenant_id,
            number: self.lease,
        };
        let state = if is_poison {
            JobState::Parked
        } else {
            JobState::Ready
        };
        End {
            wait: Some(Duration::ZERO),
            is_uncounted: true,
            crashes: Some(crashes),
            failure,
            ..End::new(lease, self.attempt, state)
        }
    }
}
