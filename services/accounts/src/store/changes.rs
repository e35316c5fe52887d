//! The log of changes of permissions and credentials, which each instance reads to keep its memory true.

use diesel::{dsl::max, prelude::*};
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    Connection, DbError, Querying as _, Tx, on,
    types::{Id, Moment},
};
use uuid::Uuid;

use super::schema::accounts_changes as changes;

/// The key of the lock that writers hold until they have committed: "accounts" in ASCII.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7017843186951284339)";

/// Records a change.
///
/// On PostgreSQL under a lock, so that no smaller number becomes visible after a larger one: a reader would miss it.
/// SQLite has one writer.
pub(crate) async fn insert(tx: &mut Tx, kind: &'static str, subject: Uuid) -> Result<(), DbError> {
    if let Connection::Postgres(c) = tx.connection() {
        let locked = diesel::sql_query(LOCK).execute(&mut **c).await;
        tx.classified(locked)?;
    }
    let row = (
        changes::kind.eq(kind),
        changes::subject.eq(Id::<()>::from_uuid(subject)),
        changes::at.eq(Moment::now()),
    );
    on!(tx, |c| diesel::insert_into(changes::table)
        .values(row)
        .execute(c)
        .await)
    .map(drop)
}

/// At most `limit` changes after `seq`, in their order.
pub(crate) async fn after(
    tx: &mut Connection,
    seq: i64,
    limit: i64,
) -> Result<Vec<(i64, String, Uuid)>, DbError> {
    let query = changes::table
        .filter(changes::seq.gt(seq))
        .order(changes::seq.asc())
        .limit(limit)
        .select((changes::seq, changes::kind, changes::subject));
    let rows: Vec<(i64, String, Id<()>)> = on!(tx, |c| query.load(c).await)?;
    Ok(rows
        .into_iter()
        .map(|(seq, kind, subject)| (seq, kind, subject.uuid()))
        .collect())
}

/// The number of the last change; 0 if there is none.
pub(crate) async fn last(tx: &mut Connection) -> Result<i64, DbError> {
    let last: Option<i64> = on!(tx, |c| changes::table
        .select(max(changes::seq))
        .first(c)
        .await)?;
    Ok(last.unwrap_or_default())
}

/// Deletes changes of before `time`, at most `limit` and never the last one; how many that were.
pub(crate) async fn delete_older(tx: &mut Tx, time: Moment, limit: i64) -> Result<usize, DbError> {
    let last = last(tx).await?;
    let old = changes::table
        .filter(changes::at.lt(time).and(changes::seq.lt(last)))
        .select(changes::seq)
        .order(changes::seq.asc())
        .limit(limit);
    let old: Vec<i64> = on!(tx, |c| old.load(c).await)?;
    on!(tx, |c| diesel::delete(
        changes::table.filter(changes::seq.eq_any(old))
    )
    .execute(c)
    .await)
}
