//! How far jobs have come, as their workers say.

use diesel::{
    sql_query,
    sql_types::{BigInt, Nullable, Text, Timestamp},
};
use diesel_async::RunQueryDsl;
use dotmac_db::{
    DbError, Tx, on,
    types::{Moment, sql::Uuid},
};

use super::{run::Progress, settle::Lease};

/// Writes down how far jobs have come, each only if it is still under its lease.
pub(super) async fn write(
    tx: &mut Tx,
    lease: Lease,
    progress: Progress,
    now: Moment,
) -> Result<(), DbError> {
    let query = sql_query(
        "INSERT INTO job_progress (job_id, tenant_id, done, total, message, at, lease) \
         SELECT id, tenant_id, $1, $2, $3, $4, lease FROM job \
         WHERE id = $5 AND lease = $6 AND state = 'running' \
         ON CONFLICT (job_id) DO UPDATE SET lease = excluded.lease, done = excluded.done, \
         total = excluded.total, message = excluded.message, at = excluded.at",
    );
    let query = query
        .bind::<BigInt, _>(progress.done)
        .bind::<Nullable<BigInt>, _>(progress.total)
        .bind::<Text, _>(progress.message)
        .bind::<Timestamp, _>(now)
        .bind::<Uuid, _>(lease.id)
        .bind::<BigInt, _>(lease.number);
    on!(tx, |c| query.execute(c).await).map(drop)
}
