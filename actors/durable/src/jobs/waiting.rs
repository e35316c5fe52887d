//! How many jobs of a tenant and kind may wait.
//!
//! To count them for every job that is enqueued would cost more than the job. So a count is kept in memory for a second, and
//! for ten times as long as the counting took: while vacuum is held back that leads past what all claimed jobs have left in
//! the index. No job is refused but after counting, and instances together overshoot by no more than they enqueue meanwhile.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use diesel::{prelude::*, sql_query, sql_types::BigInt};
use diesel_async::RunQueryDsl;
use dotmac_db::{TenantId, Tx, on, types::sql::Uuid};

use super::EnqueueError;

/// Jobs of one tenant and kind that may wait.
pub const MAX_WAITING: i64 = 10_000;
/// How long a count is good at least;
const GOOD_FOR: Duration = Duration::from_secs(1);
/// and by what it took.
const TIMES_AS_LONG: u32 = 10;
/// Counts that are kept; all are forgotten when there are more.
const MOST_COUNTS: usize = 10_000;

type Whose = (TenantId, &'static str);

struct Count {
    jobs: i64,
    until: Instant,
}

static COUNTS: Mutex<Option<HashMap<Whose, Count>>> = Mutex::new(None);

/// That a job waits, for its time or a worker, as the index has it that counts such jobs. Its condition is another one than
/// that of a claim, which would otherwise take this index for its own when statistics are old, and read all entries of a
/// tenant.
pub(super) const IS_UNFINISHED: &str = "finished_at IS NULL AND state <> 'running'";

/// Refuses another job when as many wait as may wait. `unwritten` are those of the transaction that the database does not
/// have yet.
pub(super) async fn check(tx: &mut Tx, whose: Whose, unwritten: usize) -> Result<(), EnqueueError> {
    if is_known_to_fit(whose) {
        return Ok(());
    }
    let began = Instant::now();
    let waiting = count(tx, whose).await? + i64::try_from(unwritten).unwrap_or(MAX_WAITING);
    if waiting >= MAX_WAITING {
        let kind = whose.1;
        return Err(EnqueueError::TooManyWaiting { kind, waiting });
    }
    let mut counts = COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    let counts = counts.get_or_insert_default();
    if counts.len() >= MOST_COUNTS {
        counts.clear();
    }
    let good_for = GOOD_FOR.max(began.elapsed() * TIMES_AS_LONG);
    let (jobs, until) = (waiting + 1, Instant::now() + good_for);
    counts.insert(whose, Count { jobs, until });
    Ok(())
}

/// Counts one more, if a count that is good says that there is room.
fn is_known_to_fit(whose: Whose) -> bool {
    let mut counts = COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    let count = counts.as_mut().and_then(|counts| counts.get_mut(&whose));
    let Some(count) = count.filter(|count| Instant::now() < count.until) else {
        return false;
    };
    let fits = count.jobs < MAX_WAITING;
    count.jobs += i64::from(fits);
    fits
}

async fn count(tx: &mut Tx, (tenant, kind): Whose) -> Result<i64, dotmac_db::DbError> {
    #[derive(QueryableByName)]
    struct Number {
        #[diesel(sql_type = BigInt)]
        number: i64,
    }
    let query = sql_query(format!(
        "SELECT count(*) AS number FROM (SELECT 1 FROM job WHERE tenant_id = $1 AND kind = $2 \
         AND {IS_UNFINISHED} LIMIT 10001) AS waiting"
    ));
    let query = query
        .bind::<Uuid, _>(tenant)
        .bind::<diesel::sql_types::Text, _>(kind);
    let found: Number = on!(tx, |c| query.get_result(c).await)?;
    Ok(found.number)
}
