//! Unique keys: of one tenant and kind, one job at a time has a key.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_db::{
    Connection, DbError, OptionalExtension, Querying, TenantId, Tx, on, types::Moment,
};

use super::{
    JobId, JobState,
    enqueue::is_unwritten,
    options::Unique,
    tables::{job, job_key, job_unique},
};

/// Gives the key to the job `id`; or says which job has it already.
///
/// A transaction that asks for a key which another is about to give away waits for that one's end.
pub(super) async fn reserve(
    tx: &mut Tx,
    (tenant, kind): (TenantId, &'static str),
    unique: &Unique,
    id: JobId,
) -> Result<Option<JobId>, DbError> {
    let now = Moment::now();
    let holds_until = (now + unique.period).min(Moment::LAST);
    let place = (tenant, kind, unique.key.as_str());
    if let Some((holder, until)) = insert_or_lock(tx, place, id, holds_until).await? {
        if until > now || is_under_way(tx, holder).await? {
            return Ok(Some(holder));
        }
        hand_over(tx, place, id, holds_until).await?;
    }
    let noted = (
        job_key::job_id.eq(id),
        job_key::tenant_id.eq(tenant),
        job_key::key.eq(unique.key.clone()),
        job_key::holds_until.eq(holds_until),
    );
    let note = diesel::insert_into(job_key::table).values(noted);
    on!(tx, |c| note.execute(c).await)?;
    Ok(None)
}

/// Gives its key, if it was enqueued with one, to the finished job `id` again; or says which unfinished one has it.
pub(super) async fn reserve_again(tx: &mut Tx, id: JobId) -> Result<Option<JobId>, DbError> {
    let query = job_key::table
        .inner_join(job::table.on(job::id.eq(job_key::job_id)))
        .filter(job_key::job_id.eq(id))
        .select((
            job::tenant_id,
            job::kind,
            job_key::key,
            job_key::holds_until,
        ));
    let found: Option<(TenantId, String, String, Moment)> =
        on!(tx, |c| query.first(c).await).optional()?;
    let Some((tenant, kind, key, holds_until)) = found else {
        return Ok(None);
    };
    // Not in the past, so that no retention that runs now takes the key away.
    let holds_until = holds_until.max(Moment::now());
    let place = (tenant, kind.as_str(), key.as_str());
    if let Some((holder, until)) = insert_or_lock(tx, place, id, holds_until).await? {
        if holder != id && is_under_way(tx, holder).await? {
            return Ok(Some(holder));
        }
        hand_over(tx, place, id, holds_until.max(until)).await?;
    }
    Ok(None)
}

/// Gives a key that no job has to the job `id`; else the job that has it, and until when at least, locked until the end of
/// the transaction.
async fn insert_or_lock(
    tx: &mut Tx,
    (tenant, kind, key): (TenantId, &str, &str),
    id: JobId,
    holds_until: Moment,
) -> Result<Option<(JobId, Moment)>, DbError> {
    loop {
        let row = (
            job_unique::tenant_id.eq(tenant),
            job_unique::kind.eq(kind.to_owned()),
            job_unique::key.eq(key.to_owned()),
            job_unique::job_id.eq(id),
            job_unique::holds_until.eq(holds_until),
        );
        let insert = diesel::insert_into(job_unique::table).values(row);
        let insert = insert
            .on_conflict((job_unique::tenant_id, job_unique::kind, job_unique::key))
            .do_nothing();
        if on!(tx, |c| insert.execute(c).await)? == 1 {
            return Ok(None);
        }
        // Retention may have taken it away in between.
        if let Some(found) = lock(tx, (tenant, kind, key)).await? {
            return Ok(Some(found));
        }
    }
}

/// Gives a key that is locked to the job `id`.
async fn hand_over(
    tx: &mut Tx,
    (tenant, kind, key): (TenantId, &str, &str),
    id: JobId,
    holds_until: Moment,
) -> Result<(), DbError> {
    let this_one = job_unique::table.find((tenant, kind.to_owned(), key.to_owned()));
    let taken = diesel::update(this_one).set((
        job_unique::job_id.eq(id),
        job_unique::holds_until.eq(holds_until),
    ));
    on!(tx, |c| taken.execute(c).await).map(drop)
}

async fn lock(
    tx: &mut Tx,
    (tenant, kind, key): (TenantId, &str, &str),
) -> Result<Option<(JobId, Moment)>, DbError> {
    let query = job_unique::table
        .find((tenant, kind.to_owned(), key.to_owned()))
        .select((job_unique::job_id, job_unique::holds_until));
    let found = match tx.connection() {
        Connection::Postgres(c) => query.for_update().first(&mut **c).await,
        // The transaction has the only write lock there is.
        Connection::Sqlite(c) => query.first(&mut **c).await,
    };
    tx.classified(found).optional()
}

async fn is_under_way(tx: &mut Tx, id: JobId) -> Result<bool, DbError> {
    if is_unwritten(tx, id) {
        return Ok(true);
    }
    let query = job::table.find(id).select(job::state);
    let state: Option<JobState> = on!(tx, |c| query.first(c).await).optional()?;
    Ok(state.is_some_and(|state| !state.is_finished()))
}
