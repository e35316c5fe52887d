//! Bounds of a kind over all instances: how many of its jobs run at a time, and how many start.

use std::time::Duration;

use diesel::{prelude::*, sql_types::Bool};
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError, Querying, Tx, on, types::Moment};

use super::{
    KindSpec, Rate,
    tables::{job, job_kind},
};
use crate::clock::{between, now};

/// Whether the kind has bounds over all instances.
pub(super) fn is_bounded(spec: &KindSpec) -> bool {
    spec.rules.total.is_some() || spec.rules.rate.is_some()
}

/// Locks the rows of all those kinds that are bounded, in the order in which claims do.
pub(super) async fn lock(tx: &mut Tx, specs: &[KindSpec], at: Moment) -> Result<(), DbError> {
    let bounded: Vec<_> = specs.iter().filter(|spec| is_bounded(spec)).collect();
    for spec in &bounded {
        add(tx, spec, at).await?;
    }
    let Connection::Postgres(c) = tx.connection() else {
        return Ok(());
    };
    let kinds: Vec<_> = bounded.iter().map(|spec| spec.kind).collect();
    let query = job_kind::table
        .filter(job_kind::kind.eq_any(kinds))
        .order(job_kind::kind)
        .select(job_kind::kind)
        .for_update();
    let locked = query.load::<String>(&mut **c).await;
    tx.classified(locked).map(drop)
}

/// Adds the row of a kind, if there is none yet.
async fn add(tx: &mut Tx, spec: &KindSpec, at: Moment) -> Result<(), DbError> {
    let first = (job_kind::kind.eq(spec.kind), job_kind::free_at.eq(at));
    let insert = diesel::insert_into(job_kind::table).values(first);
    let insert = insert.on_conflict(job_kind::kind).do_nothing();
    on!(tx, |c| insert.execute(c).await).map(drop)
}

/// How many jobs of the kind may be claimed, of `free` that there is room for here.
pub(super) async fn bound(
    tx: &mut Tx,
    spec: &KindSpec,
    free: i64,
    at: Moment,
) -> Result<i64, DbError> {
    let rules = spec.rules;
    if !is_bounded(spec) {
        return Ok(free);
    }
    // Instances that claim jobs of the kind do so one after the other.
    add(tx, spec, at).await?;
    let query = job_kind::table.find(spec.kind).select(job_kind::free_at);
    let free_at = match tx.connection() {
        Connection::Postgres(c) => query.for_update().first::<Moment>(&mut **c).await,
        Connection::Sqlite(c) => query.first::<Moment>(&mut **c).await,
    };
    let free_at = tx.classified(free_at)?;
    let mut most = free;
    if let Some(total) = rules.total {
        let running = job::table
            .filter(diesel::dsl::sql::<Bool>("state = 'running'"))
            .filter(job::kind.eq(spec.kind));
        let running: i64 = on!(tx, |c| running.count().get_result(c).await)?;
        most = most.min(i64::from(total) - running);
    }
    if let Some(rate) = rules.rate {
        most = most.min(allowed(rate, free_at, now(tx).await?));
    }
    Ok(most.max(0))
}

/// How many starts `rate` allows at `now`, if the next one is due at `free_at`: a quarter of them at once, so that they are
/// spread.
fn allowed(rate: Rate, free_at: Moment, now: Moment) -> i64 {
    let each = spacing(rate);
    let burst = each.saturating_mul((rate.jobs / 4).max(1));
    let from = free_at.max(now);
    let room = burst.saturating_sub(between(now, from));
    i64::try_from(room.as_nanos() / each.as_nanos().max(1)).unwrap_or(i64::MAX)
}

fn spacing(rate: Rate) -> Duration {
    (rate.per / rate.jobs.max(1)).max(Duration::from_micros(1))
}

/// Puts off the next start by those that were made.
pub(super) async fn spend(tx: &mut Tx, spec: &KindSpec, started: usize) -> Result<(), DbError> {
    let Some(rate) = spec.rules.rate.filter(|_| started > 0) else {
        return Ok(());
    };
    let now = now(tx).await?;
    let query = job_kind::table.find(spec.kind).select(job_kind::free_at);
    let free_at: Moment = on!(tx, |c| query.first(c).await)?;
    let started = u32::try_from(started).unwrap_or(u32::MAX);
    let free_at = free_at.max(now) + spacing(rate).saturating_mul(started);
    let next = diesel::update(job_kind::table.find(spec.kind)).set(job_kind::free_at.eq(free_at));
    on!(tx, |c| next.execute(c).await).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_allows_a_quarter_at_once_and_then_one_at_a_time() {
        let rate = Rate {
            jobs: 8,
            per: Duration::from_secs(8),
        };
        let now = Moment::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(allowed(rate, now, now), 2);
        assert_eq!(
            allowed(rate, now, after(100)),
            2,
            "what was not used is gone"
        );
        assert_eq!(allowed(rate, after(1), now), 1);
        assert_eq!(allowed(rate, after(2), now), 0);
        assert_eq!(allowed(rate, after(9), now), 0);
    }
}
