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
    tables::{job, job_unique},
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
    loop {
        let row = (
            job_unique::tenant_id.eq(tenant),
            job_unique::kind.eq(kind),
            job_unique::key.eq(unique.key.clone()),
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
        let this_one = job_unique::table.find((tenant, kind, unique.key.clone()));
        // Retention may have taken it away in between.
        let Some((holder, until)) = lock(tx, tenant, kind, &unique.key).await? else {
            continue;
        };
        if until > now || is_under_way(tx, holder).await? {
            return Ok(Some(holder));
        }
        let taken = diesel::update(this_one).set((
            job_unique::job_id.eq(id),
            job_unique::holds_until.eq(holds_until),
        ));
        on!(tx, |c| taken.execute(c).await)?;
        return Ok(None);
    }
}

/// The job that has the key, and until when at least; locked until the end of the transaction.
async fn lock(
    tx: &mut Tx,
    tenant: TenantId,
    kind: &'static str,
    key: &str,
) -> Result<Option<(JobId, Moment)>, DbError> {
    let query = job_unique::table
        .find((tenant, kind, key.to_owned()))
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
