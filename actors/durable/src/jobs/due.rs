//! Jobs whose time has come.

use std::time::Duration;

use diesel::{
    prelude::*,
    sql_query,
    sql_types::{Nullable, Timestamp},
};
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, Db, DbError, Querying, Tx, on, types::Moment};

use super::arrival;
use crate::clock::{between, now};

/// Jobs that are made ready by one transaction.
const AT_ONCE: i64 = 1000;

#[derive(QueryableByName)]
struct Next {
    #[diesel(sql_type = Nullable<Timestamp>)]
    run_at: Option<Moment>,
}

/// Makes jobs ready whose time has come; gives how long it is until the next one.
pub(super) async fn make_ready(db: &Db) -> Result<Option<Duration>, DbError> {
    let look = async |c: &mut Connection| {
        let now = now(c).await?;
        let query = sql_query(
            "SELECT min(run_at) AS run_at FROM job WHERE state IN ('scheduled', 'retrying')",
        );
        let next: Next = on!(c, |c| query.get_result(c).await)?;
        Ok::<_, DbError>((now, next.run_at))
    };
    let (now, next) = db.read("look for jobs that are due", look).await?;
    match next {
        None => return Ok(None),
        Some(next) if next > now => return Ok(Some(between(now, next))),
        Some(_) => {}
    }
    let make = async move |tx: &mut Tx| {
        let xid = arrival::xid(tx);
        let query = match tx.connection() {
            Connection::Postgres(_) => format!(
                "WITH due AS MATERIALIZED (SELECT id FROM job WHERE state IN ('scheduled', 'retrying') \
                 AND run_at <= $1 ORDER BY run_at LIMIT {AT_ONCE} FOR UPDATE SKIP LOCKED) \
                 UPDATE job SET state = 'ready', ready_xid = {xid} FROM due WHERE job.id = due.id"
            ),
            Connection::Sqlite(_) => format!(
                "UPDATE job SET state = 'ready', ready_xid = {xid} WHERE id IN (SELECT id FROM job \
                 WHERE state IN ('scheduled', 'retrying') AND run_at <= $1 ORDER BY run_at LIMIT {AT_ONCE})"
            ),
        };
        let query = sql_query(query).bind::<Timestamp, _>(now);
        on!(tx, |c| query.execute(c).await)
    };
    db.transaction("make jobs ready", make).await?;
    Ok(Some(Duration::ZERO))
}
